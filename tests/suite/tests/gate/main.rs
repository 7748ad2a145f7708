//! The HTTP gates over real sockets: what they refuse, forward and remember.

mod ambiguous;
mod bodies;
mod flow;
mod intermediary;
mod overload;
mod pages;
mod places;
mod playlists;
mod proxies;
mod proxies_of_others;
mod sessions;
mod tokens;
mod upstreams;
mod viewers;
mod watching;
