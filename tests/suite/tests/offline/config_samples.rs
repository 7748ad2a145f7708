//! Configurations that operators have load as they are.

use filter_user::{
    config::{Report, load},
    load::DiskFiles,
    model::{Access, Action, Config, OpenReason},
};

fn sample(name: &str) -> (Config, Report) {
    let path = kit::fixtures().join(name);
    let (config, report) = load(&path, &DiskFiles);
    (config.unwrap_or_else(|| panic!("{}", report.render(false))), report)
}

/// The stable names of what is said, in order.
fn codes(report: &Report) -> Vec<&str> {
    report.diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

fn rules(config: &Config, policy: &str) -> Vec<String> {
    let id = config.policy_named(policy).unwrap_or_else(|| panic!("no policy {policy}"));
    config.policy(id).rules().iter().map(|rule| rule.text.to_string()).collect()
}

fn playing(config: &Config, stream: &str) -> String {
    match &config.streams[stream].on_play {
        Access::Policy(id) => config.policy(*id).name().to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_first_sample_is_read_whole() {
    let (config, report) = sample("myauth1.conf");
    assert_eq!(codes(&report), [""; 0]);
    assert_eq!(
        rules(&config, "myauth1"),
        [
            "allow ip 192.0.2.10",
            "allow ip 198.51.100.0/24",
            "allow ip 172.16/24",
            "deny ip 203.0.113.7",
            "allow country RU",
            "allow country US",
            "deny country GB",
            "allow token test_token1",
            "deny ua \"Mozilla/5.0 (Windows; U; Windows NT 5.1; en-US; rv:\"",
        ]
    );
    assert_eq!(playing(&config, "example_stream"), "myauth1");
}

#[test]
fn the_local_network_with_backends_is_read_whole() {
    let (config, report) = sample("multi_local.conf");
    assert_eq!(codes(&report), ["iptv-backend"]);
    assert_eq!(rules(&config, "multi_local"), ["allow ip 192.168.0/24"]);
    assert_eq!(config.policies[0].backends().len(), 2);
    assert!(config.policies[0].default_allow().is_none());
}

#[test]
fn the_list_of_banned_addresses_is_read_whole() {
    let (config, report) = sample("blacklist.conf");
    assert_eq!(codes(&report), [""; 0]);
    assert_eq!(
        rules(&config, "blacklist"),
        ["deny ip 203.0.113.1", "deny ip 203.0.113.128/25", "deny ip 10.10/16"]
    );
    assert!(config.policies[0].default_allow().is_some());
}

#[test]
fn tokens_with_a_backend_are_read_whole() {
    let (config, report) = sample("myauth2.conf");
    assert_eq!(codes(&report), [""; 0]);
    assert_eq!(rules(&config, "myauth2"), ["allow token friend_token1", "allow token friend_token2"]);
    assert_eq!(config.policies[0].backends().len(), 1);
}

#[test]
fn agents_are_read_whole() {
    let (config, report) = sample("agents.conf");
    assert_eq!(codes(&report), [""; 0]);
    assert_eq!(rules(&config, "agents"), ["allow ua MAG", "allow ua TVIP"]);
}

#[test]
fn a_whole_server_is_read_as_it_is() {
    let (config, report) = sample("flussonic.conf");
    assert_eq!(
        codes(&report),
        ["iptv", "securetoken", "not-enforced", "not-enforced", "not-enforced", "passed-over"],
        "{}",
        report.render(false)
    );
    let passed = report.diagnostics.last().expect("a note");
    assert!(!passed.message.contains("password"), "{}", passed.message);
    for directive in ["cluster_key", "dvr", "transcoder", "peer", "event_sink", "plugin"] {
        assert!(passed.message.contains(directive), "{}", passed.message);
    }

    assert_eq!(playing(&config, "first"), "subscribers");
    assert_eq!(playing(&config, "studio1"), "boxes");
    assert_eq!(playing(&config, "camera2"), "local_only");
    assert_eq!(playing(&config, "partner_srt"), "on_play of partner_srt");
    assert_eq!(playing(&config, "radio"), "subscribers");
    assert_eq!(playing(&config, "vod"), "boxes");
    assert_eq!(playing(&config, "events"), "boxes");
    assert_eq!(config.streams["first"].on_publish, Access::Closed);
    let publishers = config.policy_named("publishers").expect("defined");
    // It has a password beside its policy.
    let studio = config.streams["studio1"].on_publish.policy().expect("a policy judges");
    assert_eq!(&**config.policy(studio).name(), "publishers for publishing to studio1");
    assert_eq!(config.streams["pubs"].on_publish, Access::Policy(publishers));
    assert_eq!(config.stream_for("vod/films/a.mp4/index.m3u8").map(|stream| &*stream.name), Some("vod"));

    let listeners: Vec<_> =
        config.listeners.iter().map(|listener| format!("{} {}", listener.directive, listener.key)).collect();
    for listener in [
        "http 80/tcp",
        "https 443/tcp",
        "rtmp 1935/tcp",
        "srt 9998/udp",
        "admin_https 8092/tcp",
        "srt 9997/udp",
    ] {
        assert!(listeners.iter().any(|known| known == listener), "{listener} in {listeners:?}");
    }
}

#[test]
fn nicgate_stands_in_front_of_a_whole_server() {
    let (config, report) = sample("nicgate.conf");
    assert!(!report.has_errors());
    assert_eq!(config.files.len(), 4);
    let names = |service: usize| -> Vec<_> {
        config.services[service].policies.iter().map(|id| &**config.policy(*id).name()).collect()
    };
    assert_eq!(config.services[0].open, None::<OpenReason>);
    assert!(names(0).contains(&"publishers"));
    assert_eq!(config.services[1].open, None);
    assert_eq!(names(2), ["on_play of partner_srt"]);
    assert_eq!(names(3), ["subscribers", "local_only"]);
    assert_eq!(
        rules(&config, "blocklists"),
        ["drop ip file \"lists/drop.netset\"", "allow token file \"lists/tokens.txt\"", "drop country KP"]
    );
    let id = config.policy_named("blocklists").expect("defined");
    assert_eq!(config.policy(id).rules()[0].action, Action::Drop);
}
