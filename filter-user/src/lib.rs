//! nicgate: Flussonic-style access rules, enforced at the network card and in userspace.
//!
//! An operator writes `auth_backend` blocks: lists of tokens, addresses, countries and User-Agents, HTTP backends, a
//! default. This crate enforces them in two places. What every possible request would be denied is dropped by an XDP
//! program, before the kernel allocates a buffer; everything else reaches the [`gate`], which judges token, address,
//! country, User-Agent and backends, and proxies what is admitted. The command `nicgate` is [`cli::main`] and nothing else.
//!
//! # The way of an address
//!
//! ```text
//!  text ── config ──► model ── offload ──► classes of addresses ── kernel ──► maps ──► drop or pass
//!                             │
//!  request ── gate ──► judge ──► session ──► backend ──► admitted or refused
//! ```
//!
//! A configuration is read by [`load`], which needs neither root nor a network interface, and compiled by [`offload`]:
//!
//! ```
//! use std::path::Path;
//!
//! use filter_user::load::load;
//!
//! let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/allowlist.conf");
//! let (loaded, report) = load(&example, &|_step| ()).map_err(|error| error.to_string())?;
//! assert!(!report.has_errors());
//!
//! // What the network card does with a packet to the first protected port: pass, or drop on account of a rule.
//! let compiled = loaded.compile();
//! assert_eq!(compiled.verdict("203.0.113.7".parse()?, 0), None);
//! let rule = compiled.verdict("198.51.100.7".parse()?, 0).expect("it is on no list");
//! assert_eq!(&*compiled.rule(rule).policy_name, "customers");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rooms
//!
//! Each has one job, and names only rooms of lower floors; ARCHITECTURE.md has the ways through them.
//!
//! | room | its job |
//! |---|---|
//! | [`cli`] | the commands, and what they print |
//! | [`daemon`] | makes the parts of the controller, wires them, takes them apart |
//! | [`control`] | the socket, both ends |
//! | [`operations`] | what an operator can ask for, a type for each reply, carried out in one place |
//! | [`watch`] | the one owner of filters and bans; what is enforced against what should be; alarms |
//! | [`gate`] | HTTP: judges every request, forwards what was judged |
//! | [`session`] | what the backends said, for how long, and to whom; who has to be asked again |
//! | [`backend`] | asking: in parallel, in time, in turn |
//! | [`http`] | reading HTTP strictly, in front of any listener |
//! | [`state`] | what outlives the process: the last good configuration, the bans |
//! | [`kernel`] | the program, its maps, its link and its pins: the only room that knows aya |
//! | [`limits`] | how often limits of nicgate's own were reached |
//! | [`tls`] | from PEM texts to what rustls needs |
//! | [`load`] | from files on a disk to all that is enforced |
//! | [`config`] | text to model, and what to say when it is wrong |
//! | [`manifest`] | playlists and manifests: which references get the token |
//! | [`explain`] | why a request is admitted or refused, step by step |
//! | [`judge`] | a request in, a verdict with stage, rule and reason out |
//! | [`table`] | what may be dropped, as the kernel's maps will hold it |
//! | [`offload`] | the model to what may be dropped by address and port alone |
//! | [`bans`], [`country`], [`model`], [`address`] | runtime bans; countries; what a configuration means; addresses |
//!
//! The last seven rows do no input or output and know neither tokio nor aya, so that random configurations and
//! requests are compared with a naive oracle by the million.
//!
//! # What holds
//!
//! - **Sound**: nothing is dropped at the network card that any request could get admitted.
//! - **Complete**: whatever is decided by address and port is dropped there, countries included.
//! - A packet is judged by one whole table, the former or the next one; a configuration with an error changes nothing.
//! - The filter outlives the controller. Only `nicgate detach` takes it off.

pub mod address;
pub mod backend;
pub mod bans;
pub mod cli;
pub mod config;
pub mod control;
pub mod country;
pub mod daemon;
pub mod explain;
pub mod gate;
pub mod http;
pub mod judge;
pub mod kernel;
pub mod limits;
pub mod load;
pub mod manifest;
pub mod model;
pub mod offload;
pub mod operations;
pub mod session;
pub mod state;
pub mod table;
pub mod tls;
pub mod watch;
