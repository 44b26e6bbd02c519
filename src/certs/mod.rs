//! The certificates the gate serves: read, check, choose by name, watch, swap.
//!
//! [`CertStore`] holds the pairs now served and answers rustls; `watch` keeps it in step with the
//! files. A change is judged whole before it is served: a pair that is half-written, mismatched,
//! expired or gone leaves the old one in place. TLS itself (versions, suites, tickets) is `proxy`'s.

mod dev;
mod error;
mod load;
mod paths;
mod report;
mod select;
mod store;
mod summary;
#[cfg(test)]
pub(crate) mod testing;
mod watch;

pub use dev::{DevError, dev_pair};
pub use error::{CertError, Problem};
pub use load::PairFiles;
pub(crate) use load::{check_pair, parse_chain, read_bounded};
pub use store::{CertStore, ReloadOutcome};
pub use summary::CertSummary;
pub use watch::watch;
