//! What a configuration means.

use super::*;

#[test]
fn a_small_configuration_loads() {
    let config = good(
        "auth_backend myauth1 { allow ip 172.16/24; deny ip 10.10/16 10.0.0.0/8; allow token t1; backend http://h/a; allow default; }\n\
         stream example_stream { input udp://239.0.0.1:1234; on_play auth://myauth1; }\n\
         gate 80 { upstream http://127.0.0.1:8080; }\n\
         guard tcp [::]:1935 auth://myauth1;\n\
         guard udp 192.0.2.1:9998 streams;",
    );
    assert_eq!(config.policies.len(), 1);
    assert_eq!(config.services.len(), 3);
}
