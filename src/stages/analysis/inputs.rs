//! What an analysis declares that it reads: its place in the plan, what it is handed and what is in its key follow from
//! that.

/// What an analysis reads beside the vectors of its sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inputs {
    pub sets: Sets,
    /// The activations that the vectors are made of, and the stories behind these. Of one set each layer is then a unit by
    /// itself, so that no more than one layer of activations is looked at at once.
    pub activations: bool,
    /// The model that the vectors were read from; of two sets the second's.
    pub model: bool,
    /// The experiment's seed, for what is drawn at random.
    pub seed: bool,
    /// The model's chat template, into which texts are put: what that is told is in the key.
    pub chat: bool,
    /// It works for long, and so in batches, which are kept: see [`Kind::run_in_batches`](super::Kind::run_in_batches).
    pub batches: bool,
}

/// Which sets of vectors an analysis is run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sets {
    /// Each by itself.
    One,
    /// Any two: of two models, or of two sources.
    Two,
    /// Those of two models that read the stories of one source.
    Readers,
    /// The same, the second of which is the target: both ways, each under the target's name.
    Target,
}

impl Inputs {
    /// The vectors of one set, and nothing else.
    pub const VECTORS: Inputs = Inputs {
        sets: Sets::One,
        activations: false,
        model: false,
        seed: false,
        chat: false,
        batches: false,
    };

    /// Activations of two sets, with what is drawn at random.
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
