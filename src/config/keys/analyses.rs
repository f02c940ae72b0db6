//! The keys of each kind of analysis. Knows nothing of how they are read.

use super::{across, key};
use crate::lm::Positions;
use crate::params::Default::{Is, Required, Said, Ships};
use crate::params::{Key, Kind, Params, Table, Type, Value, Words, presets};
use crate::stages::analysis::steering::Unit;
use crate::stages::analysis::turns::Ask;
use crate::stages::analysis::{logit_lens, pca, probe};

impl Words for Unit {
    const WORDS: &'static [(&'static str, Self)] =
        &[("vector", Unit::Vector), ("resid_norm", Unit::ResidNorm)];
}
impl Words for Ask {
    const WORDS: &'static [(&'static str, Self)] = &[("user", Ask::User), ("raw", Ask::Raw)];
}

/// The kinds of analyses.
pub static ANALYSES: &[Kind] = &[
    Kind { name: "pca", table: pca::Pca::TABLE },
    Kind { name: "cosine", table: &COSINE },
    Kind { name: "logit_lens", table: logit_lens::LogitLens::TABLE },
    Kind { name: "steering", table: &STEERING },
    Kind { name: "implicit", table: &IMPLICIT },
    Kind { name: "intensity", table: &INTENSITY },
    Kind { name: "geometry", table: &GEOMETRY },
    Kind { name: "probe", table: probe::Probe::TABLE },
    Kind { name: "norms", table: &NORMS },
    Kind { name: "rsa", table: &across::RSA },
    Kind { name: "cka", table: &across::CKA },
    Kind { name: "transfer", table: &across::TRANSFER },
    Kind { name: "scale", table: &across::SCALE },
];

static COSINE: Table = Table {
    about: "Cosines between all emotion vectors.",
    abouts: &[],
    keys: &[key(
        "pairs",
        Type::Pairs,
        Is("[]"),
        "Pairs with a row of their own in the report, beside published values where there are any.",
    )],
};

static GEOMETRY: Table = Table {
    about: "Intervals and nulls for cosines and components, and the reliability of each vector: see docs/methods.md. Reads the activations, a layer at a time.",
    abouts: &[],
    keys: &[
        key("pairs", Type::Pairs, Is("[]"), "Pairs whose cosines are shown with their intervals."),
        key(
            "families",
            Type::NamedTexts,
            Is("{}"),
            "Emotions that belong together, by name: `{ joy = [\"happy\", \"joyful\"], anger = [\"angry\", \"furious\"] }`. Cosines within families are compared with those between them.",
        ),
        key(
            "resamples",
            Type::Integer { min: 2, max: 100_000 },
            Is("1000"),
            "Bootstrap resamples of the topics (of a template: of its passages), for the intervals.",
        ),
        key(
            "permutations",
            Type::Integer { min: 0, max: 100_000 },
            Is("1000"),
            "Shuffles of the emotions' labels within topics, for the nulls.",
        ),
        key(
            "halves",
            Type::Integer { min: 0, max: 10_000 },
            Is("100"),
            "Random splits of the topics into halves, for the reliability.",
        ),
    ],
};

static NORMS: Table = Table {
    about: "Components and whole vectors beside people's ratings of the words: see docs/methods.md.",
    abouts: &[],
    keys: &[
        key(
            "file",
            Type::Text,
            Said("the circumplex: 28 words"),
            "A file with columns `word`, `valence`, `arousal` and perhaps `dominance` (also under the names of NRC-VAD and of Warriner et al.), by comma or tab, relative to the project.",
        ),
        key(
            "components",
            Type::Integer { min: 2, max: 20 },
            Is("3"),
            "How many are correlated with ratings.",
        ),
        key(
            "resamples",
            Type::Integer { min: 2, max: 100_000 },
            Is("1000"),
            "Bootstrap resamples of the emotions, for the intervals.",
        ),
        key(
            "permutations",
            Type::Integer { min: 0, max: 100_000 },
            Is("1000"),
            "Shuffles of the ratings over the emotions, for the nulls.",
        ),
    ],
};

/// So many of something, or none.
const COUNT: Type = Type::Integer { min: 0, max: 10_000 };

static STEERING: Table = Table {
    about: "What adding a vector does to the log-probability of every emotion's word after a prompt.",
    abouts: &[],
    keys: &[
        key(
            "prompts",
            Type::Texts,
            Is("[\"He feels\"]"),
            "The beginnings; each emotion's word is measured after each of them, with a space before it.",
        ),
        key(
            "strength",
            Type::Numbers,
            Is("[1.0]"),
            "How strongly: one or several, not 0; below 0 in the opposite direction. Several give dose curves.",
        ),
        key(
            "unit",
            <Unit as Value>::OF,
            Is("\"vector\""),
            "`vector`: adds strength * v; `resid_norm`: adds strength * (mean residual norm at that layer) * v/|v|.",
        ),
        key(
            "layers",
            Type::Forms { words: &["default", "all"], layers: true, table: None },
            Is("\"default\""),
            "Which of the kept layers are steered; `default`: the one nearest to 2/3 of the depth.",
        ),
        key(
            "positions",
            <Positions as Value>::OF,
            Is("\"all\""),
            "Which tokens' residual streams the vector is added to.",
        ),
        key(
            "random",
            COUNT,
            Is("19"),
            "Random directions of the same norm beside each vector: a null. 19 is the least number of which p can be .05.",
        ),
        key(
            "permuted",
            COUNT,
            Is("19"),
            "Directions with the vector's own coordinates in another order: a null that keeps how its entries are spread.",
        ),
        key(
            "shuffled",
            COUNT,
            Is("19"),
            "Vectors of the same stories with their emotions shuffled within each topic, scaled to the same norm: a null that keeps what stories have in common.",
        ),
        key(
            "resamples",
            COUNT,
            Is("100"),
            "Resamples of the topics, each with vectors of its own that steer their own words: the interval of each effect. 0: none. Each takes a row for each emotion, prompt and strength.",
        ),
        key(
            "coherence",
            Type::PresetOrTexts(presets::COHERENCE),
            Is("\"neutral-8\""),
            "Neutral texts whose log-probability is measured under the same steering, up to 64 tokens each: where it falls, the model is broken. `none`: not measured.",
        ),
    ],
};

const WRAP: Key = key(
    "wrap",
    <Ask as Value>::OF,
    Is("\"user\""),
    "`user`: each text is the user's turn in the chat template, read where the model's answer begins; `raw`: as it stands, read at its last token, for models without a chat template.",
);

static IMPLICIT: Table = Table {
    about: "Everyday situations that each imply one emotion without naming it, and whose vector is nearest there.",
    abouts: &[],
    keys: &[
        key(
            "situations",
            Type::Pairs,
            Ships("twelve that ship", include_str!("../../params/presets/situations-12.txt")),
            "Pairs of a text and the emotion that it implies. Those of emotions that the experiment has not are left out, and the report says which.",
        ),
        WRAP,
    ],
};

static INTENSITY: Table = Table {
    about: "Texts in which a number grows, and whether the emotions named for it rise or fall.",
    abouts: &[],
    keys: &[
        key(
            "templates",
            Type::Named(&TEMPLATE),
            Ships(
                "`dose`, `hunger`, `missing`, `runway`",
                include_str!("../../params/presets/templates-4.txt"),
            ),
            "What grows. Emotions that the experiment has not are left out, and the report says which.",
        ),
        WRAP,
    ],
};

static TEMPLATE: Table = Table {
    about: "One thing of which there is more or less.",
    abouts: &[],
    keys: &[
        key("texts", Type::Texts, Required, "Phrasings of it, each with `{number}` in it."),
        key("numbers", Type::Numbers, Required, "What is put there, one after another; at least four."),
        key("rise", Type::Texts, Said("none"), "Emotions that should rise with the number."),
        key("fall", Type::Texts, Said("none"), "Emotions that should fall."),
    ],
};
