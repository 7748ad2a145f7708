//! A process that begins to take over from a controller and ends before it has: `half-heir SOCKET STATE STEPS`.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use filter_user::{
    control::{Channel, Client},
    operations::{HandingOver, Heir, Request},
};
use serde_json::Value;

/// What is said at each step, and how what is answered ends.
const STEPS: [(&str, &str); 2] = [("release", "released"), ("commit", "handed")];

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().context("SOCKET STATE STEPS");
    let (socket, state) = (PathBuf::from(argument()?), PathBuf::from(argument()?));
    let steps: usize = argument()?.parse()?;
    let client = Client::connect(&socket)?.context("no controller runs")?;
    let heir = Heir { protocol: 1, version: "0.0.0".to_owned(), state };
    let (reply, channel) = client.ask_for_descriptor::<HandingOver>(&Request::HandOver(heir))?;
    let channel = Channel::new(channel.with_context(|| reply.message)?)?;
    for (say, answer) in &STEPS[..steps] {
        channel.send(say, &[]).await?;
        loop {
            let heard = tokio::time::timeout(Duration::from_secs(30), channel.receive::<Value>()).await??;
            let (heard, _) = heard.context("the controller has ended")?;
            if heard.as_str() == Some(answer) || heard.get(answer).is_some() {
                break;
            }
        }
    }
    // Without a word, as a process ends that is killed.
    Ok(())
}
