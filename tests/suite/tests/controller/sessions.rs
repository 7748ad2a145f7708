//! What operators do with sessions from the command line.

use kit::{
    edge::{Edge, GATE, RULES, VIEWER},
    http::Get,
    netns::EDGE_V6,
    nicgate::PATIENCE,
    rights,
};
use serde_json::{Value, json};

#[test]
fn operators_list_end_and_recheck_sessions() {
    rights::need_root();
    let edge = Edge::new("sessions");
    edge.configure(RULES, "");
    let _controller = edge.start();
    assert_eq!(edge.get(&edge.viewer, "/live/index.m3u8?token=good").unwrap().status, 200);
    let list = |arguments: &[&str]| -> Vec<Value> {
        let said = edge.nicgate(&[&["sessions", "--json"], arguments].concat()).with(0).json();
        said["sessions"].as_array().unwrap().clone()
    };
    let all = list(&[]);
    assert_eq!(all.len(), 1, "{all:#?}");
    for (arguments, count) in [
        (&["--stream", "live"][..], 1),
        (&["--stream", "other"], 0),
        (&["--ip", VIEWER[0]], 1),
        (&["--ip", VIEWER[1]], 0),
        (&["--user", "7"], 0),
        (&["--stream", "live", "--ip", VIEWER[0], "--sort", "bytes"], 1),
        (&["--sort", "age"], 1),
    ] {
        assert_eq!(list(arguments).len(), count, "{arguments:?}");
    }
    let id = all[0]["id"].as_str().unwrap();
    let kicked = edge.nicgate(&["sessions", "kick", id, "--ban", "10m", "--json"]).with(0).json();
    assert_eq!(kicked, json!({"sessions": 1, "transfers": 0}));
    let answer = edge.get(&edge.viewer, "/live/index.m3u8?token=good").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (403, "denied: kicked\n"));
    assert!(list(&[]).is_empty());
    let none = edge.nicgate(&["sessions", "kick", id]).with(0).stdout;
    assert_eq!(none, "no session is open that matches\n");
    // Which ones has to be said.
    for wrong in
        [&["kick"][..], &["kick", "nobody"], &["reauth"], &["kick", "--ip", VIEWER[0], "--ban", "soon"]]
    {
        let said = edge.nicgate(&[&["sessions"], wrong].concat()).with(2);
        assert!(said.stdout.is_empty(), "{said:?}");
    }
    let answer = Get::new((EDGE_V6, GATE), "/live/6").timeout(PATIENCE).send(&edge.viewer).unwrap();
    assert_eq!(answer.status, 200);
    let said = edge.nicgate(&["sessions", "reauth", "--stream", "live"]).with(0).stdout;
    assert_eq!(said, "there is no backend to ask about 1 session\n");
    let counters = edge.nicgate(&["stats", "--json"]).with(0).json()["sessions"].clone();
    assert_eq!(json!([counters["open"], counters["kicked"]]), json!([1, 1]));
}
