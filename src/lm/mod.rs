//! Decoder-only language models on libtorch. Knows nothing of emotions, plans or caches of results.

pub mod attention;
pub mod batch;
pub mod block;
pub mod cache;
pub mod checkpoint;
pub mod decoder;
pub mod device;
pub mod experts;
pub mod family;
pub mod feed_forward;
pub mod generate;
pub mod hook;
pub mod libtorch;
pub mod linear;
pub mod memory;
pub mod mlp;
pub mod model;
pub mod names;
pub mod norm;
pub mod per_layer;
pub mod room;
pub mod rope;
pub mod sample;
pub mod spec;
pub mod template;
pub mod tokenizer;
pub mod weights;

pub use batch::Batch;
pub use checkpoint::Checkpoint;
pub use decoder::Decoder;
pub use generate::Sampling;
pub use hook::{Capture, Hook, Positions, Steer};
pub use model::{LanguageModel, LensNorm};
pub use spec::{Dtype, Held, Spec};
pub use template::{Chat, Date, Message, Role};
pub use tokenizer::{Tokenizer, Tokens, Wrap};
