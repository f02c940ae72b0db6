//! Declares what an analysis reads, which determines its place in the plan, the data it receives and the contents of
//! its cache key.

/// The inputs of an analysis besides the vectors of its sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inputs {
    pub sets: Sets,
    /// The activations that the vectors are computed from, and their stories. For analyses of one set each layer is
    /// then a separate unit, so that no more than one layer of activations is in memory at once.
    pub activations: bool,
    /// The model that the vectors were read from; for two sets, the model of the second.
    pub model: bool,
    /// The seed of the experiment, for random draws.
    pub seed: bool,
    /// The model's chat template, which formats the texts: its options are part of the key.
    pub chat: bool,
    /// It runs for long, and therefore in batches that are cached: see
    /// [`Kind::run_in_batches`](super::Kind::run_in_batches).
    pub batches: bool,
}

/// The sets of vectors that an analysis is run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sets {
    /// Each set by itself.
    One,
    /// Any two: of two models, or of two sources.
    Two,
    /// Sets of two models that read the stories of one source.
    Readers,
    /// The same, where the second is the target: in both directions, each listed under the target's name.
    Target,
}

impl Inputs {
    /// The vectors of one set only.
    pub const VECTORS: Inputs = Inputs {
        sets: Sets::One,
        activations: false,
        model: false,
        seed: false,
        chat: false,
        batches: false,
    };

    /// Activations of two sets, and the seed.
    pub const fn of_two(sets: Sets) -> Inputs {
        Inputs { sets, activations: true, seed: true, ..Inputs::VECTORS }
    }
}

impl Sets {
    /// Whether both models must have read the same stories.
    pub fn same_stories(self) -> bool {
        matches!(self, Sets::Readers | Sets::Target)
    }

    pub fn is_directed(self) -> bool {
        self == Sets::Target
    }
}
