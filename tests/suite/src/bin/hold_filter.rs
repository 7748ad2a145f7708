//! Attaches a filter and holds it until it is killed: `hold_filter BPFFS INTERFACE`.
//!
//! Drops 192.0.2.66 and 2001:db8::66 on 5000/udp.

use std::{io::Write, thread, time::Duration};

use filter_user::{
    kernel::{Bpffs, Filter},
    model::{Engine, InterfaceMode, Proto},
};
use kit::tables::Table;

fn main() -> anyhow::Result<()> {
    let [bpffs, interface]: [String; 2] = std::env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| anyhow::anyhow!("usage: hold_filter BPFFS INTERFACE"))?;
    let table =
        Table::denying("deny ip 192.0.2.66", &["192.0.2.66/32", "2001:db8::66/128"], &[(Proto::Udp, 5000)]);
    let layout = table.layout(Engine::default());
    let (_filter, report) = Filter::attach_in(&Bpffs::at(bpffs), &interface, InterfaceMode::Auto, &layout)?;
    println!("{}", if report.adopted { "adopted" } else { "attached" });
    std::io::stdout().flush()?;
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}
