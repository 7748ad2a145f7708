//! Real players and publishers through a gate, in front of real servers: they play what they may, as one session each, and
//! nothing else. docs/players.md has the table of what is tried with what.

mod behind;
mod media;
mod players;
mod plays;
mod publishes;
