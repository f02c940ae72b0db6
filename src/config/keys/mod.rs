//! The registry of tables: the whole file, and what is chosen by a kind.

use crate::params::{Default, Key, Placed, Type};

mod across;
mod analyses;
mod criteria;
mod list;
mod sources;

pub use list::ROOT;

const fn key(name: &'static str, of: Type, default: Default, about: &'static str) -> Key {
    Key { name, of, default, about, only: None, when: &[] }
}

const fn at_least(min: i64) -> Type {
    Type::Integer { min, max: i64::MAX }
}

/// The whole file.
pub fn top() -> Placed {
    Placed::top(&ROOT)
}

/// Every table there is, each once, in the order of the file.
pub fn tables() -> Vec<Placed> {
    top().all()
}
