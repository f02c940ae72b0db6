//! What can be steered with what: the models of an experiment, their sets of vectors, emotions and layers; and the field `steering` of
//! a request. Computes nothing.

use serde_json::Value;

use super::refusal::{Fields, Refusal};
use crate::config::problem::suggestion;
use crate::lm::layer::EMBED;
use crate::lm::{Chat, Layer};
use crate::plan::{Plan, Work};
use crate::resolve::Resolved;
use crate::stages::analysis::steering::{At, nearest_two_thirds};
use crate::store::Store;

/// Strengths beyond this are a slip.
const STRONGEST: f64 = 100.0;
/// Additions of one request.
const MOST: usize = 16;
/// Random directions have numbers up to this.
const RANDOM: usize = 10_000;

/// An experiment whose models can be had here.
#[derive(Clone, Copy)]
pub struct Ready<'s> {
    pub resolved: &'s Resolved,
    pub plan: &'s Plan,
    pub store: &'s Store,
}

/// A set of vectors of the plan.
#[derive(Clone, Debug)]
pub struct Set {
    /// Its node.
    pub node: usize,
    /// Its model, by its place among those resolved.
    pub model: usize,
    pub stories: String,
    /// Empty without a sweep.
    pub variant: String,
    pub layers: Vec<Layer>,
    pub emotions: Vec<String>,
}

/// Along what something is added.
#[derive(Clone, Debug, PartialEq)]
pub enum Direction {
    Emotion(String),
    /// The random direction of this number, from 1, as in `scenario`.
    Random(usize),
}

/// One entry of `steering`.
#[derive(Clone, Debug)]
pub struct Steer {
    pub set: Set,
    pub direction: Direction,
    /// In mean residual norms, of all layers together.
    pub strength: f64,
    pub layers: Vec<Layer>,
    pub positions: At,
}

impl<'s> Ready<'s> {
    /// The sets of vectors of the experiment's own models.
    pub fn sets(&self) -> Vec<Set> {
        let set = |(node, it): (usize, &crate::plan::Node)| {
            let Work::Vectors { set, emotions, .. } = &it.work else { return None };
            let models = &self.resolved.models;
            let model = models.iter().position(|model| model.name == set.model && model.checks.is_none())?;
            (!set.is_check).then(|| Set {
                node,
                model,
                stories: set.stories.clone(),
                variant: set.variant(),
                layers: it.units.iter().filter_map(|unit| unit.layer).collect(),
                emotions: emotions.clone(),
            })
        };
        self.plan.nodes.iter().enumerate().filter_map(set).collect()
    }

    /// The model of this name; where there is only one, it need not be named.
    ///
    /// # Errors
    /// There is none; several.
    pub fn model(&self, named: Option<&str>) -> Result<usize, Refusal> {
        let models = &self.resolved.models;
        let there: Vec<usize> = (0..models.len()).filter(|&at| models[at].checks.is_none()).collect();
        let names = || there.iter().map(|&at| models[at].name.as_str());
        match (named, there.as_slice()) {
            (Some(named), _) => there.iter().copied().find(|&at| models[at].name == named).ok_or_else(|| {
                let hint = suggestion(named, "models of the experiment", names().collect::<Vec<_>>());
                Refusal::none("model", format!("there is no model `{named}`; {hint}"))
            }),
            (None, [only]) => Ok(*only),
            (None, _) => {
                let list = names().collect::<Vec<_>>().join(", ");
                Err(Refusal::of("model", format!("`model` is missing: it is one of {list}")))
            }
        }
    }

    /// What its chat template is told.
    pub fn chat(&self, model: usize) -> Chat {
        Chat { date: self.resolved.experiment.date, thinking: self.resolved.models[model].thinking }
    }

    /// A set of a model's; `path`: where the request names it.
    ///
    /// # Errors
    /// There is none; several.
    pub fn set(
        &self,
        model: usize,
        (stories, variant): (Option<&str>, Option<&str>),
        path: &str,
    ) -> Result<Set, Refusal> {
        let own = self.sets().into_iter().filter(|set| set.model == model).collect();
        let own = narrowed(own, |set| &set.stories, stories, &format!("{path}stories"))?;
        let own = narrowed(own, |set| &set.variant, variant, &format!("{path}variant"))?;
        let none = || Refusal::of(path.trim_end_matches('.'), "the experiment has no vectors of this model");
        own.into_iter().next().ok_or_else(none)
    }

    /// The field `steering`: a list of what is added. `plain`: to a plain text, else to a conversation.
    ///
    /// # Errors
    /// What is not known, or out of bounds.
    pub fn steering(&self, model: usize, list: Vec<Value>, plain: bool) -> Result<Vec<Steer>, Refusal> {
        if list.len() > MOST {
            return Err(Refusal::of("steering", format!("`steering` has at most {MOST} entries")));
        }
        let one = |(at, value): (usize, Value)| {
            let fields = Fields::within(format!("steering[{at}]."), value)?;
            self.steer(model, fields, plain)
        };
        list.into_iter().enumerate().map(one).collect()
    }

    /// One entry.
    ///
    /// # Errors
    /// What is not known, or out of bounds.
    pub fn steer(&self, model: usize, mut fields: Fields, plain: bool) -> Result<Steer, Refusal> {
        let named = fields.take::<String>("model")?;
        if let Some(named) = named.filter(|named| *named != self.resolved.models[model].name) {
            let name = fields.named("model");
            return Err(Refusal::of(name, format!("`{named}` is not the request's model")));
        }
        let (stories, variant) = (fields.take::<String>("stories")?, fields.take::<String>("variant")?);
        let set = self.set(model, (stories.as_deref(), variant.as_deref()), &fields.named(""))?;
        let emotion: String = fields.need("emotion")?;
        let direction = match set.direction(&emotion) {
            Ok(direction) => direction,
            Err(hint) => {
                let name = fields.named("emotion");
                return Err(Refusal::of(name, format!("there is no vector of `{emotion}`; {hint}")));
            }
        };
        let missing =
            Refusal::of(fields.named("strength"), format!("`{}` is missing", fields.named("strength")));
        let strength = fields.number("strength", (-STRONGEST, STRONGEST))?.ok_or(missing)?;
        let asked = fields.take::<Value>("layers")?;
        let layers = self.layers(&set, asked).map_err(|message| {
            let name = fields.named("layers");
            Refusal::of(name.clone(), format!("`{name}`: {message}"))
        })?;
        let word = fields.take::<String>("positions")?.unwrap_or("all".into());
        let positions = positions(&word, plain).map_err(|message| {
            let name = fields.named("positions");
            Refusal::of(name.clone(), format!("`{name}`: {message}"))
        })?;
        fields.end()?;
        Ok(Steer { set, direction, strength, layers, positions })
    }

    /// The layers that a request names: kept ones.
    fn layers(&self, set: &Set, asked: Option<Value>) -> Result<Vec<Layer>, String> {
        let n_layers = self.resolved.models[set.model].spec.n_layers();
        let list = match asked {
            None => return Ok(vec![nearest_two_thirds(&set.layers, n_layers)]),
            Some(Value::String(word)) if word == "default" => {
                return Ok(vec![nearest_two_thirds(&set.layers, n_layers)]);
            }
            Some(Value::String(word)) if word == "all" => return Ok(set.layers.clone()),
            Some(Value::Array(list)) if !list.is_empty() => list,
            Some(one @ (Value::Number(_) | Value::String(_))) => vec![one],
            Some(_) => return Err("write a block's number, a list of such, or \"default\"".into()),
        };
        let one = |value: Value| {
            let layer: Layer = serde_json::from_value(value).map_err(|error| error.to_string())?;
            match set.layers.contains(&layer) {
                true => Ok(layer),
                false => {
                    let kept = set.layers.iter().map(Layer::to_string).collect::<Vec<_>>().join(", ");
                    Err(format!("layer {layer} is not among the kept layers: there are vectors at {kept}"))
                }
            }
        };
        let mut layers = list.into_iter().map(one).collect::<Result<Vec<Layer>, String>>()?;
        layers.sort();
        layers.dedup();
        Ok(layers)
    }

    /// One kept layer; by default the one nearest to two thirds of the depth.
    ///
    /// # Errors
    /// In words: what is none.
    pub fn layer(&self, set: &Set, asked: Option<Value>) -> Result<Layer, String> {
        match self.layers(set, asked)?.as_slice() {
            [one] => Ok(*one),
            _ => Err("name one layer".into()),
        }
    }
}

/// Those of `sets` that have `wanted` in a field; all have the same there where it is not said.
fn narrowed(
    mut sets: Vec<Set>,
    of: fn(&Set) -> &String,
    wanted: Option<&str>,
    name: &str,
) -> Result<Vec<Set>, Refusal> {
    let mut there: Vec<String> = sets.iter().map(|set| of(set).clone()).collect();
    there.sort();
    there.dedup();
    match wanted {
        Some(wanted) if there.iter().any(|known| known == wanted) => {
            sets.retain(|set| of(set) == wanted);
            Ok(sets)
        }
        Some(wanted) => {
            let hint = suggestion(wanted, "there are", there.iter().map(String::as_str).collect::<Vec<_>>());
            Err(Refusal::of(name, format!("there are no vectors with `{name}` = `{wanted}`; {hint}")))
        }
        None if there.len() > 1 => {
            Err(Refusal::of(name, format!("`{name}` is missing: it is one of {}", there.join("; "))))
        }
        None => Ok(sets),
    }
}

impl Set {
    /// An emotion, or `random-1`, `random-2`, ... `Err`: a hint.
    fn direction(&self, named: &str) -> Result<Direction, String> {
        if self.emotions.iter().any(|known| known == named) {
            return Ok(Direction::Emotion(named.to_string()));
        }
        let number = named.strip_prefix("random-").and_then(|number| number.parse().ok());
        match number.filter(|number| (1..=RANDOM).contains(number)) {
            Some(number) => Ok(Direction::Random(number)),
            None => {
                let known = self.emotions.iter().map(String::as_str).chain(["random-1"]);
                Err(suggestion(named, "there are", known))
            }
        }
    }
}

/// The word for positions: those of `steering` in a plain text, those of `scenario` in a conversation.
fn positions(word: &str, plain: bool) -> Result<At, String> {
    let known: &[(&str, At)] =
        &[("all", At::All), ("prompt", At::Prompt), ("generated", At::Generated), ("content", At::Content)];
    let known = if plain { known } else { &known[..3] };
    let found = known.iter().find(|(name, _)| *name == word).map(|(_, at)| *at);
    found.ok_or_else(|| {
        let names = known.iter().map(|(name, _)| *name);
        let what = if plain { "positions in a plain text" } else { "positions in a conversation" };
        format!("there is no `{word}`; {}", suggestion(word, what, names.collect::<Vec<_>>()))
    })
}

/// As in requests.
pub fn shown(layer: Layer) -> Value {
    layer.block().map_or_else(|| Value::from(EMBED), Value::from)
}
