//! `fetch` against a loopback server.
