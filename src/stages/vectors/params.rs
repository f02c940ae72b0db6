//! `[vectors]`: how activations become emotion vectors.

use std::rc::Rc;

use serde::Serialize;

use crate::params::{Form, Key, Node, Params as _, Problem, Read, Reader, Type, Value, params, words};

params! {
    /// How activations become emotion vectors.
    pub struct Params {
        /// What is subtracted from an emotion's mean: the mean of the emotions' means (`emotions`), or nothing (`none`).
        pub center: Center = "emotions";
        /// Which principal components of the neutral activations are projected out.
        #[unset("`{ components = 3 }` with `[neutral]`, else `\"none\"`")]
        pub denoise: Denoise;
        // Of `denoise`.
        #[of(Type::NONE)]
        #[with(tokens)]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tokens: Option<usize>;
        /// Scale every vector to length 1.
        pub normalize: bool = false;
        /// What has equal weight in an emotion's mean: every story (`stories`), or every topic (`topics`: the mean of
        /// the topics' means, which is not biased when emotions have different numbers of stories on a topic).
        pub weights: Equal = "stories";
    }
}

words! {
    /// What is subtracted from each emotion's mean.
    pub enum Center {
        /// The mean of the emotions' means.
        Emotions = "emotions",
        None = "none",
    }
}

words! {
    /// What counts alike in an emotion's mean.
    pub enum Equal {
        /// Every story.
        Stories = "stories",
        /// Every topic: the mean of the topics' means. Where topics have different numbers of stories of each emotion, as
        /// when more of some are rejected, the mean over stories is partly of the topics that an emotion has more of.
        Topics = "topics",
    }
}

impl Equal {
    pub fn is_stories(&self) -> bool {
        *self == Equal::Stories
    }
}

/// Which neutral principal components are projected out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Denoise {
    None,
    /// The given number of leading components.
    Components(usize),
    /// The smallest number of leading components that explain at least this fraction of the variance.
    Variance(f64),
}

params! {
    /// The table forms of `denoise`; exactly one of them.
    pub struct DenoiseForms {
        /// The leading so many.
        #[unset("-")]
        pub components: Option<usize>, 1..;
        /// The fewest that explain at least this fraction of the variance.
        #[unset("-")]
        pub variance: Option<f64>, above 0.0..=1.0;
        /// With either: the components of so many single tokens of each neutral text, evenly spaced from `from_token` on.
        #[unset("of the texts' means")]
        pub tokens: Option<usize>, 1..=1000;
    }
}

fn tokens(reader: &Reader<'_>, _: &str) -> Read<Option<usize>> {
    reader.get::<Tokens>("denoise").map(|tokens| tokens.0)
}

/// The key `tokens` of `denoise`.
struct Tokens(Option<usize>);

impl Value for Tokens {
    const OF: Type = Denoise::OF;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Tokens> {
        let Form::Table(table) = reader.form(key, node)? else { return Ok(Tokens(None)) };
        DenoiseForms::read(&table).map(|forms| Tokens(forms.tokens))
    }

    fn absent(_: &Reader<'_>) -> Option<Tokens> {
        Some(Tokens(None))
    }
}

impl Value for Denoise {
    const OF: Type = Type::Forms { words: &["none"], layers: false, table: Some(DenoiseForms::TABLE) };

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Denoise> {
        let Form::Table(table) = reader.form(key, node)? else { return Ok(Denoise::None) };
        let DenoiseForms { components, variance, tokens: _ } = DenoiseForms::read(&table)?;
        let denoise = match (components, variance) {
            (Some(components), None) => Denoise::Components(components),
            (None, Some(variance)) => Denoise::Variance(variance),
            _ => {
                let problem = Problem::at(table.span(), "`denoise` must be exactly one of its forms");
                return reader.wrong(problem.hint("{ components = 3 }, { variance = 0.5 } or \"none\""));
            }
        };
        if !reader.scope.has("neutral") {
            let problem = Problem::at(node.span.clone(), "`denoise` needs neutral text, and there is none");
            return reader.wrong(problem.hint(
                "add `[neutral.template]` with `set = \"neutral-40\"`, or write `denoise = \"none\"`",
            ));
        }
        Ok(denoise)
    }

    /// Three components: the number that the open replication on Gemma removed.
    fn absent(reader: &Reader<'_>) -> Option<Denoise> {
        Some(if reader.scope.has("neutral") { Denoise::Components(3) } else { Denoise::None })
    }
}
