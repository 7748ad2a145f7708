//! What a WHIP or WHEP client ends its session by.
//!
//! The answer to its offer names a resource (`Location`, RFC 9725, 4.2), to which it sends PATCH and DELETE. Some media
//! servers put that outside the stream's path, where it would be nobody's to judge. The client is given one below the
//! stream's own, in which the media server's stands, signed: a request to it is judged as any other of the stream, and
//! nobody can make one up to reach another path of the media server.

use super::player_token::PlayerTokens;

/// What the last segment of such a path begins with. Hexadecimal digits follow: the signature, then the target.
const MARK: &str = "nicgate-";
/// How long a signature is, in digits.
const SIGNATURE: usize = 32;
/// The longest target that is hidden, in bytes.
const LONGEST: usize = 2048;

/// The last segment of a path that stands for a target of the media server.
pub(super) fn hide(tokens: &PlayerTokens, stream: &str, target: &str) -> Option<String> {
    if target.len() > LONGEST
        || !target.starts_with('/')
        || !target.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return None;
    }
    let digits: String = target.bytes().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{MARK}{}{digits}", tokens.sign(stream, target)))
}

/// The target of the media server that a path of the stream stands for.
pub(super) fn shown(tokens: &PlayerTokens, stream: &str, path: &str) -> Option<String> {
    let (above, last) = path.rsplit_once('/')?;
    if !matches!(above.rsplit('/').next(), Some("whip" | "whep")) {
        return None;
    }
    let (signature, digits) = last.strip_prefix(MARK)?.split_at_checked(SIGNATURE)?;
    if digits.len() > 2 * LONGEST || !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()).collect();
    let target = String::from_utf8(bytes?).ok()?;
    tokens.signed(stream, &target, signature).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_leads_to_what_it_was_made_of_and_nowhere_else() {
        let tokens = PlayerTokens::new();
        let hidden = hide(&tokens, "cam", "/session/1?x=y").unwrap();
        let path = format!("cam/whip/{hidden}");
        assert_eq!(shown(&tokens, "cam", &path).as_deref(), Some("/session/1?x=y"));
        assert_eq!(shown(&tokens, "cam2", &path), None, "of another stream");
        assert_eq!(shown(&PlayerTokens::new(), "cam", &path), None, "of another process");
        for end in ["0", "00", "2f", "é"] {
            assert_eq!(shown(&tokens, "cam", &format!("{path}{end}")), None, "{end}");
        }
        let other = format!("cam/whip/{MARK}{}{}", "0".repeat(SIGNATURE), "2f61646d696e");
        assert_eq!(shown(&tokens, "cam", &other), None, "made up");
        for path in ["", "cam/whip", "cam/whip/1", "cam/whip/nicgate-", &format!("cam/{hidden}")] {
            assert_eq!(shown(&tokens, "cam", path), None, "{path}");
        }
        for target in ["", "session/1", "/a b", "/\n", &format!("/{}", "a".repeat(LONGEST))] {
            assert_eq!(hide(&tokens, "cam", target), None, "{target}");
        }
    }
}
