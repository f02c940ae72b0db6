//! What can be steered: the models of an experiment with their sets of vectors, emotions and layers. Parses the field
//! `steering` of a request. Computes nothing.

use serde_json::Value;

use super::refusal::{Fields, Refusal};
use crate::config::problem::suggestion;
use crate::lm::layer::EMBED;
use crate::lm::{Chat, Layer};
use crate::plan::{Plan, Work};
use crate::resolve::Resolved;
use crate::stages::analysis::steering::{At, nearest_two_thirds};
use crate::store::Store;

/// Limit on the magnitude of a strength; anything beyond is a mistake.
const STRONGEST: f64 = 100.0;
/// Limit on the number of `steering` entries in a request.
const MOST: usize = 16;
/// Largest number of a random direction.
const RANDOM: usize = 10_000;

/// An experiment whose models are available on this machine.
#[derive(Clone, Copy)]
pub struct Ready<'s> {
    pub resolved: &'s Resolved,
    pub plan: &'s Plan,
    pub store: &'s Store,
}

/// A set of vectors in the plan.
#[derive(Clone, Debug)]
pub struct Set {
    /// Index of its node.
    pub node: usize,
    /// Index of its model among the resolved ones.
    pub model: usize,
    pub stories: String,
    /// Variant of the sweep; empty without a sweep.
    pub variant: String,
    pub layers: Vec<Layer>,
    pub emotions: Vec<String>,
}

/// The direction of steering.
#[derive(Clone, Debug, PartialEq)]
pub enum Direction {
    Emotion(String),
    /// The random direction with this number, from 1, as in `scenario`.
    Random(usize),
}

/// One entry of `steering`.
#[derive(Clone, Debug)]
pub struct Steer {
    pub set: Set,
    pub direction: Direction,
    /// In units of the mean residual norm, in total over all layers.
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

    /// Index of the model of this name; the name may be omitted if there is only one model.
    ///
    /// # Errors
    /// No such model, or the name is missing and there are several.
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

    /// The settings of a model's chat template.
    pub fn chat(&self, model: usize) -> Chat {
        Chat { date: self.resolved.experiment.date, thinking: self.resolved.models[model].thinking }
    }

    /// A set of vectors of a model; `path`: where the request names it.
    ///
    /// # Errors
    /// No set matches, or several do.
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

    /// Parses the field `steering`, a list of additions. `plain`: for a plain text, else for a conversation.
    ///
    /// # Errors
    /// An unknown name, or a value out of bounds.
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

    /// Parses one entry of `steering`.
    ///
    /// # Errors
    /// An unknown name, or a value out of bounds.
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

    /// The layers named by a request, which must be among the model's kept layers.
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

    /// A single kept layer; by default the one nearest to two thirds of the depth.
    ///
    /// # Errors
    /// A message: no such layer, or several.
    pub fn layer(&self, set: &Set, asked: Option<Value>) -> Result<Layer, String> {
        match self.layers(set, asked)?.as_slice() {
            [one] => Ok(*one),
            _ => Err("name one layer".into()),
        }
    }
}

/// The sets whose field `of` equals `wanted`; without `wanted`, all sets must agree in that field.
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
    /// Parses the name of an emotion, or `random-1`, `random-2`, ... `Err`: a hint.
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

/// Parses the positions: those of `steering` for a plain text, those of `scenario` for a conversation.
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

/// A layer in the notation of requests.
pub fn shown(layer: Layer) -> Value {
    layer.block().map_or_else(|| Value::from(EMBED), Value::from)
}
