//! `securetoken`: a token that carries its own proof.

use std::net::IpAddr;

use sha1::{Digest, Sha1};

/// Whether `token` is `hash-salt-endtime-starttime` with the right hash, and `now` (seconds since 1970) is
/// in its time window. `Err` says what is wrong, for the operator.
///
/// The hash is the hexadecimal SHA-1 of name, address, starttime, endtime, key and salt, one after the other.
///
/// # Errors
///
/// The reason why the token does not admit the client.
pub fn verify(key: &str, name: &str, address: IpAddr, token: &str, now: u64) -> Result<(), &'static str> {
    let mut parts = token.split('-');
    let (Some(hash), Some(salt), Some(end), Some(start), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("token is not hash-salt-endtime-starttime");
    };
    let seconds =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (Some(end_time), Some(start_time)) = (seconds(end), seconds(start)) else {
        return Err("token times are not numbers");
    };
    let digest = Sha1::new()
        .chain_update(name)
        .chain_update(address.to_string())
        .chain_update(start)
        .chain_update(end)
        .chain_update(key)
        .chain_update(salt)
        .finalize();
    // The hash is looked at before the times: a forged token learns nothing from the answer.
    if !is_hex_of(hash.as_bytes(), &digest) {
        return Err("token hash is wrong");
    }
    if now < start_time {
        return Err("token is not valid yet");
    }
    if now > end_time {
        return Err("token has expired");
    }
    Ok(())
}

/// Compares without an early exit: the time taken does not tell how many digits were right.
fn is_hex_of(hex: &[u8], digest: &[u8]) -> bool {
    if hex.len() != digest.len() * 2 {
        return false;
    }
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    let difference = digest
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .zip(hex)
        .fold(0, |difference, (right, given)| std::hint::black_box(difference | (right ^ given)));
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf cam192.0.2.710002000keysalt | sha1sum`.
    const TOKEN: &str = "5ef89bd1befcf28c8b3e72cd402c5e375a38aa75-salt-2000-1000";

    fn check(key: &str, name: &str, ip: &str, token: &str, now: u64) -> Result<(), &'static str> {
        verify(key, name, ip.parse().unwrap(), token, now)
    }

    #[test]
    fn admits_only_in_its_window() {
        assert_eq!(check("key", "cam", "192.0.2.7", TOKEN, 1000), Ok(()));
        assert_eq!(check("key", "cam", "192.0.2.7", TOKEN, 2000), Ok(()));
        assert_eq!(check("key", "cam", "192.0.2.7", TOKEN, 999), Err("token is not valid yet"));
        assert_eq!(check("key", "cam", "192.0.2.7", TOKEN, 2001), Err("token has expired"));
    }

    #[test]
    fn is_bound_to_name_address_and_key() {
        for (key, name, ip) in
            [("kez", "cam", "192.0.2.7"), ("key", "cam2", "192.0.2.7"), ("key", "cam", "192.0.2.8")]
        {
            assert_eq!(check(key, name, ip, TOKEN, 1500), Err("token hash is wrong"));
        }
        // Moving the window without the key.
        let moved = TOKEN.replace("-2000-", "-9000-");
        assert_eq!(check("key", "cam", "192.0.2.7", &moved, 1500), Err("token hash is wrong"));
    }

    #[test]
    fn refuses_other_shapes() {
        for token in ["", "-", "---", "a-b-c-d", "a-b-1-2-3", "a-b-+1-0", "a-b-99999999999999999999-0"] {
            assert!(check("key", "cam", "192.0.2.7", token, 1500).is_err(), "{token}");
        }
    }
}
