//! Decoder-only language models on libtorch. Knows nothing of emotions, plans or caches of results.

pub mod attention;
pub mod cache;
pub mod decoder;
pub mod family;
pub mod linear;
pub mod mlp;
pub mod norm;
pub mod rope;
pub mod spec;
pub mod weights;

pub use decoder::Decoder;
pub use spec::{Dtype, Spec};
