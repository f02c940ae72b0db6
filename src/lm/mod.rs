//! Decoder-only language models on libtorch. Knows nothing of emotions, plans or caches.
