//! The verifier's work, the stack and the size of every variant of the program stay what was accepted.

use kit::rights;
use kit::verifier::{self, Comparison};

// The only test here: it must be its process's only user of file descriptors.
#[test]
fn no_variant_has_grown_unnoticed() {
    rights::need_root();
    let measured = verifier::measure().unwrap();
    for row in &measured {
        println!("{}", row.line());
    }
    let accepted = verifier::parse(verifier::RECORD).unwrap();
    match verifier::compare(&accepted, &measured) {
        Comparison::Close(changed) => changed.iter().for_each(|line| println!("changed: {line}")),
        Comparison::NotRecorded => println!(
            "nothing is compared but the limit: tests/verifier.txt has no figures of Linux {}",
            verifier::kernel()
        ),
        Comparison::Grown(wrong) => panic!("\n{}\n", wrong.join("\n")),
    }
}
