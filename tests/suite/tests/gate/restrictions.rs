//! What restricts a stream beside its policy, at a gate: the page, the country, the password of who publishes.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{collections::HashMap, path::Path};

use filter_user::{config::load, model::Country};
use kit::{
    configurations::{LOOPBACK, Made, Running},
    origins::Server,
    random::{MAIN, MemoryFiles},
    raw_client::Client,
};

fn configured(text: &str) -> Made {
    let files = MemoryFiles(HashMap::from([(MAIN.into(), text.to_owned())]));
    let (config, report) = load(Path::new(MAIN), &files);
    Made { config: config.unwrap_or_else(|| panic!("{}", report.render(false))), ..Made::new() }
}

async fn status(gate: &Running, head: &str) -> (u16, String) {
    let mut client = Client::connect(gate.address).await;
    client.send(format!("{head}\r\nHost: a\r\n\r\n")).await;
    let reply = client.reply().await;
    (reply.status, if reply.status == 403 { reply.text() } else { String::new() })
}

fn refused(by: &str) -> (u16, String) {
    (403, format!("denied: {by}\n"))
}

fn admitted() -> (u16, String) {
    (200, String::new())
}

#[tokio::test]
async fn only_listed_pages_show_a_stream_and_the_policy_judges_beside_them() {
    let upstream = Server::media().await;
    let made = configured(
        "auth_backend p { allow token good; }\n\
         stream cam { domains shown.example *.below.example; on_play auth://p; }\n\
         stream open { domain shown.example; }\nstream free { }\nno_auto_token;\n",
    );
    let gate = Running::new(made.gate(LOOPBACK, &upstream.url()));
    let good = "GET /cam?token=good HTTP/1.1";
    for (head, expected) in [
        (format!("{good}\r\nReferer: https://shown.example/watch?v=1"), admitted()),
        (format!("{good}\r\nReferer: http://Shown.Example:8080/"), admitted()),
        (format!("{good}\r\nOrigin: https://a.below.example"), admitted()),
        (good.to_owned(), refused("page")),
        (format!("{good}\r\nReferer: https://elsewhere.example/"), refused("page")),
        (format!("{good}\r\nReferer: https://shown.example.elsewhere.example/"), refused("page")),
        // Where both are there, the Referer counts.
        (
            format!("{good}\r\nOrigin: https://shown.example\r\nReferer: https://elsewhere.example/"),
            refused("page"),
        ),
        ("GET /cam?token=bad HTTP/1.1\r\nReferer: https://shown.example/".to_owned(), refused("default")),
        // Where nobody judges otherwise, nobody asks for a token.
        ("GET /open HTTP/1.1\r\nReferer: https://shown.example/".to_owned(), admitted()),
        ("GET /open HTTP/1.1".to_owned(), refused("page")),
        ("GET /free HTTP/1.1".to_owned(), admitted()),
    ] {
        assert_eq!(status(&gate, &head).await, expected, "{head}");
    }
}

#[tokio::test]
async fn nobody_plays_from_another_country_whatever_the_policy_says() {
    let upstream = Server::media().await;
    for (country, other) in [(Some("DE"), "DE"), (Some("US"), "DE US"), (None, "unknown US")] {
        let text = format!(
            "geoip c.mmdb;\nauth_backend p {{ allow token good; }}\n\
             stream cam {{ allowed_countries AT {other}; on_play auth://p; }}\n\
             stream out {{ disallowed_countries {other}; on_play auth://p; }}\n\
             stream elsewhere {{ allowed_countries AT; on_play auth://p; }}\n"
        );
        let mut made = configured(&text);
        made.countries
            .extend(country.map(|code| ("127.0.0.1".parse().unwrap(), Country::new(code).unwrap())));
        let gate = Running::new(made.gate(LOOPBACK, &upstream.url()));
        assert_eq!(status(&gate, "GET /cam?token=good HTTP/1.1").await, admitted(), "{text}");
        assert_eq!(status(&gate, "GET /out?token=good HTTP/1.1").await, refused("drop"), "{text}");
        assert_eq!(status(&gate, "GET /elsewhere?token=good HTTP/1.1").await, refused("drop"), "{text}");
    }
}

#[tokio::test]
async fn who_publishes_shows_the_password_and_who_plays_need_not() {
    let upstream = Server::media().await;
    let made = configured(
        "auth_backend p { deny ua bad; allow default; }\n\
         stream studio { input publish://; password \"s e\"; on_play auth://p; on_publish auth://p; }\n\
         stream alone { input publish://; password secret; }\n",
    );
    let gate = Running::new(made.gate(LOOPBACK, &upstream.url()));
    let put =
        |target: &str, ua: &str| format!("PUT {target} HTTP/1.1\r\nUser-Agent: {ua}\r\nContent-Length: 0");
    for (head, expected) in [
        (put("/studio?password=s%20e", "ok"), admitted()),
        (put("/studio?password=s%20e", "bad"), refused("ua")),
        (put("/studio?password=s", "ok"), refused("password")),
        (put("/studio?password=s%20e&password=x", "ok"), refused("password")),
        (put("/studio", "ok"), refused("password")),
        (put("/alone?password=secret", "ok"), admitted()),
        (put("/alone", "ok"), refused("password")),
        ("GET /studio HTTP/1.1".to_owned(), admitted()),
        ("GET /alone HTTP/1.1".to_owned(), admitted()),
    ] {
        assert_eq!(status(&gate, &head).await, expected, "{head}");
    }
    let counters = gate.gates.counters().remove(0);
    let rules: Vec<String> =
        counters.rules.iter().filter_map(|rule| rule.rule.as_deref().map(str::to_owned)).collect();
    assert!(rules.iter().any(|rule| rule.starts_with("password *** (sha1 ")), "{rules:?}");
    assert!(!rules.iter().any(|rule| rule.contains("secret")), "{rules:?}");
}
