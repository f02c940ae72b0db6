//! Names of nodes.

use std::fmt;

use super::NEUTRAL;

/// A node's name in typed form, which is never parsed back from its text. Written as `stories/own@demo`,
/// `activations/demo/own` or `space/demo/own~from_token=50`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeId {
    pub subject: Subject,
    /// The sweep settings on which the node depends, with their values: `from_token` and `50`.
    pub axes: Vec<(String, String)>,
}

/// What a node is about, independent of sweep settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A model that is missing from a plan; never the name of a node.
    Model(String),
    /// The texts of a source. `own`: the model that generated them for itself.
    Stories {
        source: String,
        own: Option<String>,
    },
    Activations {
        model: String,
        source: String,
    },
    /// Components of neutral text, computed with a model.
    Neutral {
        model: String,
    },
    Vectors {
        model: String,
        source: String,
    },
    /// Texts that are read token by token.
    Texts {
        source: String,
    },
    /// A model's readings of the texts that an analysis reads token by token.
    Readings {
        analysis: String,
        model: String,
        source: String,
    },
    /// A model's pooled spans of the texts that an analysis reads.
    Spans {
        analysis: String,
        model: String,
    },
    /// Texts that a model generates under steering for an analysis.
    Rollouts {
        analysis: String,
        model: String,
        source: String,
    },
    /// Scores of these texts.
    Scores {
        analysis: String,
        model: String,
        source: String,
    },
    /// An analysis, by its name in the file, of one model and source; or of several sets of vectors (`set` is `None`).
    Analysis {
        name: String,
        set: Option<(String, String)>,
    },
}

impl Subject {
    /// The texts of `source`; `own`: the model that wrote them for itself.
    pub fn stories(source: &str, own: Option<&str>) -> Subject {
        Subject::Stories { source: source.into(), own: own.map(str::to_string) }
    }

    pub fn activations(model: &str, source: &str) -> Subject {
        Subject::Activations { model: model.into(), source: source.into() }
    }

    pub fn neutral(model: &str) -> Subject {
        Subject::Neutral { model: model.into() }
    }

    pub fn vectors(model: &str, source: &str) -> Subject {
        Subject::Vectors { model: model.into(), source: source.into() }
    }

    pub fn texts(source: &str) -> Subject {
        Subject::Texts { source: source.into() }
    }

    /// Readings for `analysis` with the vectors of a model and a source.
    pub fn readings(analysis: &str, model: &str, source: &str) -> Subject {
        Subject::Readings { analysis: analysis.into(), model: model.into(), source: source.into() }
    }

    /// Pooled spans for `analysis` with a model.
    pub fn spans(analysis: &str, model: &str) -> Subject {
        Subject::Spans { analysis: analysis.into(), model: model.into() }
    }

    /// Texts that a model generates for `analysis`, steered with its vectors of a source.
    pub fn rollouts(analysis: &str, model: &str, source: &str) -> Subject {
        Subject::Rollouts { analysis: analysis.into(), model: model.into(), source: source.into() }
    }

    /// Scores of those texts.
    pub fn scores(analysis: &str, model: &str, source: &str) -> Subject {
        Subject::Scores { analysis: analysis.into(), model: model.into(), source: source.into() }
    }

    /// The analysis `name` of a model and a source.
    pub fn analysis(name: &str, model: &str, source: &str) -> Subject {
        Subject::Analysis { name: name.into(), set: Some((model.into(), source.into())) }
    }

    /// The analysis `name` of several sets of vectors.
    pub fn across(name: &str) -> Subject {
        Subject::Analysis { name: name.into(), set: None }
    }

    /// The first word of the name: the stage, or the name of the analysis.
    pub fn head(&self) -> &str {
        match self {
            Subject::Model(_) => "models",
            Subject::Stories { .. } => "stories",
            Subject::Activations { .. } => "activations",
            Subject::Neutral { .. } => "neutral",
            Subject::Vectors { .. } => "vectors",
            Subject::Texts { .. } => "texts",
            Subject::Readings { .. } => "readings",
            Subject::Spans { .. } => "spans",
            Subject::Rollouts { .. } => "rollouts",
            Subject::Scores { .. } => "scores",
            Subject::Analysis { name, .. } => name,
        }
    }

    /// The model that reads the texts, or that wrote them for itself; `None` for texts shared by all models and for
    /// analyses of several sets.
    pub fn model(&self) -> Option<&str> {
        match self {
            Subject::Model(model)
            | Subject::Activations { model, .. }
            | Subject::Neutral { model }
            | Subject::Vectors { model, .. }
            | Subject::Readings { model, .. }
            | Subject::Spans { model, .. }
            | Subject::Rollouts { model, .. }
            | Subject::Scores { model, .. } => Some(model),
            Subject::Texts { .. } => None,
            Subject::Stories { own, .. } => own.as_deref(),
            Subject::Analysis { set, .. } => set.as_ref().map(|(model, _)| model.as_str()),
        }
    }

    /// The source of the texts; `None` for analyses of several sets.
    pub fn source(&self) -> Option<&str> {
        match self {
            Subject::Model(_) | Subject::Spans { .. } => None,
            Subject::Neutral { .. } => Some(NEUTRAL),
            Subject::Stories { source, .. }
            | Subject::Activations { source, .. }
            | Subject::Vectors { source, .. }
            | Subject::Texts { source }
            | Subject::Readings { source, .. }
            | Subject::Rollouts { source, .. }
            | Subject::Scores { source, .. } => Some(source),
            Subject::Analysis { set, .. } => set.as_ref().map(|(_, source)| source.as_str()),
        }
    }

    /// The name without its first word.
    pub fn rest(&self) -> String {
        match self {
            Subject::Model(model) | Subject::Neutral { model } => model.clone(),
            Subject::Stories { source, own: Some(model) } => format!("{source}@{model}"),
            Subject::Stories { source, own: None } => source.clone(),
            Subject::Texts { source } => source.clone(),
            Subject::Readings { analysis, model, source }
            | Subject::Rollouts { analysis, model, source }
            | Subject::Scores { analysis, model, source } => format!("{analysis}/{model}/{source}"),
            Subject::Spans { analysis, model } => format!("{analysis}/{model}"),
            Subject::Activations { model, source }
            | Subject::Vectors { model, source }
            | Subject::Analysis { set: Some((model, source)), .. } => format!("{model}/{source}"),
            Subject::Analysis { set: None, .. } => String::new(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.rest() {
            rest if rest.is_empty() => f.write_str(self.head()),
            rest => write!(f, "{}/{rest}", self.head()),
        }
    }
}

impl NodeId {
    /// The settings as the suffix of a name: `~from_token=50`; empty without a sweep.
    pub fn settings(&self) -> String {
        self.axes.iter().map(|(axis, value)| format!("~{axis}={value}")).collect()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}{}", self.subject, self.settings())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_from_their_parts() {
        let named = [
            (Subject::stories("own", Some("demo")), "stories/own@demo", Some("demo"), Some("own")),
            (Subject::stories("said", None), "stories/said", None, Some("said")),
            (Subject::activations("demo", "own"), "activations/demo/own", Some("demo"), Some("own")),
            (Subject::neutral("demo"), "neutral/demo", Some("demo"), Some("neutral")),
            (Subject::vectors("demo", "own"), "vectors/demo/own", Some("demo"), Some("own")),
            (Subject::analysis("space", "demo", "own"), "space/demo/own", Some("demo"), Some("own")),
            (Subject::texts("logs"), "texts/logs", None, Some("logs")),
            (Subject::readings("watch", "demo", "own"), "readings/watch/demo/own", Some("demo"), Some("own")),
            (Subject::spans("talk", "demo"), "spans/talk/demo", Some("demo"), None),
            (Subject::rollouts("mail", "demo", "own"), "rollouts/mail/demo/own", Some("demo"), Some("own")),
            (Subject::scores("mail", "demo", "own"), "scores/mail/demo/own", Some("demo"), Some("own")),
            (Subject::across("moved"), "moved", None, None),
            (Subject::Model("demo".into()), "models/demo", Some("demo"), None),
        ];
        for (subject, text, model, source) in named {
            assert_eq!(
                (subject.to_string().as_str(), subject.model(), subject.source()),
                (text, model, source)
            );
            let id = NodeId { subject, axes: vec![("from_token".into(), "50".into())] };
            assert_eq!(id.to_string(), format!("{text}~from_token=50"));
        }
    }
}
