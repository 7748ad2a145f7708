//! `nicgate explain`.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::anyhow;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{
    AnswerWord, ExplainArgs, Failure, Output,
    output::{Progress, stdout, table},
};
use crate::{
    bans::BanIndex,
    explain::{Explanation, KernelVerdict, Query, RuleLine, SessionLine, Target, explain},
    http::{Ambiguous, read_target},
    judge::{Answer, Verdict},
    kernel::boottime,
    load::load,
    model::{Follows, Operation},
    state::BanStore,
};

pub(super) fn run(path: &Path, args: &ExplainArgs, output: &Output) -> Result<(), Failure> {
    let progress = Progress::new();
    // What loading warns of is `check`'s to say.
    let (loaded, _) = load(path, &|step| progress.step(step))?;
    progress.step("compiling");
    let compiled = loaded.compile();
    drop(progress);
    let path = args.target.stream.as_deref().map(normalised).transpose().map_err(Failure::Request)?;
    let target = match (&args.target.auth, &path) {
        (Some(name), _) => Target::Policy(name),
        (None, Some(path)) => {
            let operation = if args.publish { Operation::Publish } else { Operation::Play };
            Target::Stream(path, operation)
        }
        (None, None) => unreachable!("clap requires one of them"),
    };
    let answers: Option<Vec<Answer>> = args.assume_backends.as_ref().map(|words| {
        let answer = |word: &AnswerWord| match word {
            AnswerWord::Allow => Answer::Allow,
            AnswerWord::Deny => Answer::Ban,
            AnswerWord::Down => Answer::Down,
        };
        words.iter().map(answer).collect()
    });
    // Who may not read them is told so in the answer.
    let bans = BanStore::read(&args.state.state).ok().map(|table| BanIndex::new(&table.unwrap_or_default()));
    let query = Query {
        target,
        address: args.ip,
        via: args.via,
        token: args.token.as_deref(),
        ua: args.ua.as_deref(),
        page: args.page.as_deref(),
        password: args.password.as_deref(),
        backends: answers.as_deref(),
        bans: bans.as_ref(),
        now: boottime(),
    };
    let explanation = explain(&loaded.config, loaded.countries(), &compiled, &query)
        .map_err(|error| Failure::Request(error.into()))?;
    if output.json {
        output.print_json(&explanation)?;
    } else {
        print(&query, &explanation)?;
    }
    Ok(())
}

/// The path as the gate reads it. What a shell takes as it is, letters beyond ASCII for example, a client would
/// have encoded.
fn normalised(stream: &str) -> anyhow::Result<String> {
    /// Neither may stand in a request line; a `?` or `#` would end the path.
    const TYPED: &AsciiSet = &CONTROLS.add(b' ').add(b'?').add(b'#');
    let target = format!("/{}", utf8_percent_encode(stream.trim_start_matches('/'), TYPED));
    let read = read_target(target.as_bytes(), "token")
        .map_err(|Ambiguous(why)| anyhow!("the gate answers 400 to the path `{stream}`: {why}"))?;
    Ok(read.path.to_string())
}

fn print(query: &Query<'_>, explanation: &Explanation) -> io::Result<()> {
    let mut out = stdout();
    let verdict = match explanation.verdict {
        Verdict::Allow => "ALLOW",
        Verdict::Deny => "DENY",
        Verdict::Ask => "ASK",
    };
    write!(out, "{verdict}: ")?;
    match (&explanation.rule, explanation.verdict) {
        (Some(rule), _) => writeln!(out, "{} ({}:{})", rule.text, rule.file, rule.line)?,
        (None, Verdict::Ask) => writeln!(out, "the backends decide; suppose answers with --assume-backends")?,
        (None, _) => writeln!(out, "{}", explanation.steps.last().map_or("", |step| &step.result))?,
    }
    let country = explanation.country.map_or_else(|| "unknown".to_owned(), |country| country.to_string());
    let via = explanation.via.map_or_else(String::new, |via| format!(", through the proxy {via}"));
    writeln!(out, "  address {}, country {country}{via}", query.address)?;
    let rows: Vec<Vec<String>> = explanation
        .steps
        .iter()
        .map(|step| {
            let rule = step.rule.as_ref();
            let rule = rule.map(|rule| format!("{} ({}:{})", rule.text, rule.file, rule.line));
            vec![step.step.clone(), step.result.clone(), rule.unwrap_or_default()]
        })
        .collect();
    writeln!(out, "judged by {}:", explanation.policy.as_deref().unwrap_or("no policy"))?;
    table(&mut out, "  ", &rows)?;
    print_session(&mut out, &explanation.session)?;
    if !explanation.bans_known {
        writeln!(out, "runtime bans are not known here: their file cannot be read")?;
    }
    if explanation.kernel.is_empty() {
        writeln!(out, "at the NIC: no protected port leads here")?;
    } else {
        let shadow = if explanation.shadow { " (shadow: counted, not dropped)" } else { "" };
        writeln!(out, "at the NIC{shadow}:")?;
        let rows: Vec<Vec<String>> = explanation
            .kernel
            .iter()
            .map(|(port, verdict)| {
                let rule = explanation.kernel_rules.get(port);
                let rule = rule.map(|rule| format!("{} ({}:{})", rule.text, rule.file, rule.line));
                let ban = explanation.kernel_bans.get(port).map(|ban| format!("ban {}", ban.prefix));
                let proxy = explanation.kernel_proxies.get(port);
                let proxy = proxy.map(|proxy| {
                    let RuleLine { text, file, line } = proxy;
                    format!(
                        "{text} ({file}:{line}) is a trusted proxy: only the gate judges what it passes on"
                    )
                });
                let rule = rule.or(ban).or(proxy);
                let verdict = if *verdict == KernelVerdict::Drop { "drop" } else { "pass" };
                vec![port.clone(), verdict.to_owned(), rule.unwrap_or_default()]
            })
            .collect();
        table(&mut out, "  ", &rows)?;
    }
    out.flush()
}

/// What holds of the session, where there is something to say of it.
fn print_session(out: &mut impl Write, session: &SessionLine) -> io::Result<()> {
    for RuleLine { text, file, line } in &session.limits {
        writeln!(out, "at a gate: {text} ({file}:{line})")?;
    }
    if session.follows != Follows::Nothing.to_string() {
        writeln!(out, "at a gate: a session follows its player ({})", session.follows)?;
    }
    Ok(())
}
