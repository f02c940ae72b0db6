//! The playground's requests: one prompt continued in three columns (unsteered, steered, and steered along a random
//! direction of the same norm), with every token read along an emotion. Additions and random draws are those of
//! `scenario` (conversations) and `steering` (plain texts), so that a trial can be declared in an experiment file.

use std::io;
use std::net::TcpStream;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::catalogue::{Direction, Ready, Steer};
use super::engine::{Event, Models, Order, Queue, Teller};
use super::http;
use super::openai;
use super::refusal::{Fields, Refusal, bad};
use crate::lm::{Layer, Positions, Sampling};
use crate::stages::analysis::steering::At;
use crate::stages::live::{self, Along, Text};
use crate::stages::rollouts::conversation::{messages, open};
use crate::stages::rollouts::{Asked, cells, write};

/// Name of the column that is steered along a random direction.
const RANDOM: &str = "random-1";
/// Limit on the tokens of a column.
const TOKENS: usize = 2000;
/// Limit on the turns of a conversation.
const TURNS: usize = 100;

/// A trial in the playground.
pub struct Trial {
    pub steer: Steer,
    pub said: Said,
    pub seed: usize,
    pub sampling: Sampling,
    /// The emotion and the layer along which tokens are read.
    read: (String, Layer),
}

/// What the model continues.
pub enum Said {
    /// A plain text.
    Plain(String),
    /// A conversation; each column has its own replies to all turns but the last.
    Chat { system: String, turns: Vec<String>, replies: Vec<Vec<String>> },
}

impl Trial {
    /// Parses a request.
    ///
    /// # Errors
    /// An unknown name, or a value out of bounds.
    pub fn read(ready: &Ready, body: &[u8]) -> Result<Trial, Refusal> {
        let mut fields = Fields::body(body)?;
        let model = ready.model(fields.take::<String>("model")?.as_deref())?;
        let prompt = fields.take::<String>("prompt")?;
        let system = fields.take::<String>("system")?.unwrap_or_default();
        let turns = fields.take::<Vec<String>>("turns")?;
        let replies = fields.take::<Vec<Vec<String>>>("replies")?.unwrap_or_default();
        let said = match (prompt, turns) {
            (Some(prompt), None) if !prompt.trim().is_empty() => Said::Plain(prompt),
            (None, Some(turns)) => chat(system, turns, replies)?,
            _ => {
                return Err(Refusal::of(
                    "prompt",
                    "there is nothing to continue: send a `prompt`, or the `turns` of a conversation",
                ));
            }
        };
        let plain = matches!(said, Said::Plain(_));
        let mut own = serde_json::Map::new();
        for name in ["stories", "variant", "emotion", "strength", "layers", "positions"] {
            own.extend(fields.take::<Value>(name)?.map(|value| (name.to_string(), value)));
        }
        let steer = ready.steer(model, Fields::within(String::new(), Value::Object(own))?, plain)?;
        let emotion = fields.take::<String>("read_emotion")?;
        let emotion = emotion.unwrap_or_else(|| steer.emotion().to_string());
        if !steer.set.emotions.contains(&emotion) {
            return Err(Refusal::of("read_emotion", format!("there is no vector of `{emotion}`")));
        }
        let layer = fields.take::<Value>("read_layer")?;
        let layer = ready
            .layer(&steer.set, layer)
            .map_err(|why| Refusal::of("read_layer", format!("`read_layer`: {why}")))?;
        let sampling = Sampling {
            max_new_tokens: fields.count("max_new_tokens", (0, TOKENS))?.unwrap_or(100),
            temperature: fields.number("temperature", (0.0, 10.0))?.unwrap_or(0.0),
            top_k: 0,
            top_p: fields.number("top_p", (f64::MIN_POSITIVE, 1.0))?.unwrap_or(1.0),
        };
        let seed = fields.count("seed", (0, 1_000_000_000))?.unwrap_or(1);
        fields.end()?;
        Ok(Trial { steer, said, seed, sampling, read: (emotion, layer) })
    }

    /// The conversation as a case of `scenario`.
    pub fn case(&self) -> Option<Asked> {
        let Said::Chat { system, turns, .. } = &self.said else { return None };
        Some(Asked {
            name: format!("try-{}", self.seed),
            control: false,
            system: system.clone(),
            turns: turns.clone(),
            replies: Vec::new(),
            answer: String::new(),
            shown: String::new(),
            hidden: String::new(),
            options: Vec::new(),
        })
    }

    /// The texts of the three columns, identical to those of `scenario` and `steering`.
    fn texts(&self, models: &mut Models) -> Result<Vec<Text>> {
        let (ready, steer) = (models.ready, &self.steer);
        let run = ready.resolved.experiment.seed;
        let set = models.vectors(&steer.set, &steer.layers)?;
        let at = (steer.emotion(), steer.strength);
        let model = models.model(steer.set.model)?;
        let (Said::Chat { turns, replies, .. }, Some(case)) = (&self.said, self.case()) else {
            let Said::Plain(prompt) = &self.said else { unreachable!("a conversation is a case") };
            let [own, random] = live::as_in_steering(&set, &steer.layers, at, run).map_err(bad)?;
            let (ids, before) = live::plain(model, prompt).map_err(bad)?;
            let spans = live::spans(steer.positions, before, ids.len());
            // `steering` decodes greedily, with seed 0.
            let seed = if self.sampling.temperature == 0.0 { 0 } else { self.seed as u64 };
            let text = |vector: &[f32]| Text {
                ids: ids.clone(),
                seed,
                added: live::added(&steer.layers, vector, &spans),
            };
            return Ok(vec![text(&[]), text(&own), text(&random)]);
        };
        let both = live::as_in_rollouts(&set, &steer.layers, at, (run, 1)).map_err(bad)?;
        let positions = match steer.positions {
            At::Prompt => Positions::Prompt,
            At::Generated => Positions::Generated,
            _ => Positions::All,
        };
        let vectors = [&[][..]].into_iter().chain(both.iter().map(Vec::as_slice));
        let text = |(column, vector): (usize, &[f32])| {
            let none = Vec::new();
            let replies = replies.get(column).unwrap_or(&none);
            let opened =
                open(model, &messages(&case, replies, ""), "", positions, ready.chat(steer.set.model));
            let opened = opened.map_err(bad)?;
            Ok(Text {
                ids: opened.ids,
                seed: write::seed(run, &case.name, 0, turns.len() - 1),
                added: live::added(&steer.layers, vector, &opened.spans),
            })
        };
        vectors.enumerate().map(text).collect()
    }

    fn order(&self, models: &mut Models, teller: &Teller) -> Result<()> {
        let texts = self.texts(models)?;
        let (emotion, layer) = &self.read;
        let set = models.vectors(&self.steer.set, &[*layer])?;
        let along = Along { layer: *layer, direction: live::direction(&set, *layer, emotion).map_err(bad)? };
        let model = models.model(self.steer.set.model)?;
        let names = |text: &Text| text.ids.iter().map(|&id| model.token(id as u32)).collect::<Vec<_>>();
        teller.tell(Event::Said(json!({
            "columns": [cells::NONE, self.steer.emotion(), RANDOM],
            "prompts": texts.iter().map(names).collect::<Vec<_>>(),
        })))?;
        let order = Order {
            model: self.steer.set.model,
            texts,
            sampling: self.sampling,
            stops: Vec::new(),
            top: None,
            along: Some(along),
        };
        models.write(order, teller)
    }
}

impl Steer {
    /// The emotion; for a random direction the first emotion, whose place it takes.
    pub fn emotion(&self) -> &str {
        match &self.direction {
            Direction::Emotion(emotion) => emotion,
            Direction::Random(_) => self.set.emotions.first().map_or("", String::as_str),
        }
    }
}

fn chat(system: String, turns: Vec<String>, replies: Vec<Vec<String>>) -> Result<Said, Refusal> {
    if turns.is_empty() || turns.len() > TURNS || turns.iter().any(|turn| turn.trim().is_empty()) {
        return Err(Refusal::of("turns", format!("`turns` are 1 to {TURNS} texts that are not empty")));
    }
    let earlier = turns.len() - 1;
    let fit = replies.len() == 3 && replies.iter().all(|own| own.len() == earlier);
    if !(fit || earlier == 0 && replies.iter().all(Vec::is_empty)) {
        let message =
            format!("`replies` are three lists, a column each, of the replies to the first {earlier} turns");
        return Err(Refusal::of("replies", message));
    }
    Ok(Said::Chat { system, turns, replies })
}

/// Generates the three columns and sends them event by event.
///
/// # Errors
/// The client has disconnected.
pub fn play<'s>(ready: Ready<'s>, queue: &Queue<'s>, body: &[u8], to: &mut TcpStream) -> io::Result<()> {
    let put = |trial: Trial| {
        queue.put(move |models: &mut Models<'s>, teller: &Teller| {
            ensure!(
                matches!(trial.steer.direction, Direction::Emotion(_)),
                Refusal::of("emotion", "the third column is a random direction already: choose an emotion")
            );
            trial.order(models, teller)
        })
    };
    let live = match Trial::read(&ready, body).and_then(put) {
        Err(refusal) => return http::json(to, refusal.status, &refusal.json()),
        Ok(live) => live,
    };
    let mut begun = false;
    while let Some(event) = openai::next(&live, to)? {
        let said = match event {
            Event::Said(said) => {
                http::events(to)?;
                begun = true;
                said
            }
            Event::Begun(_) => continue,
            Event::Token(piece) => json!({
                "column": piece.text,
                "token": piece.token.filter(|_| !piece.ends).map(|token| token.name),
                "more": piece.more,
                "finish": piece.finish,
            }),
            Event::Traced(traced) => {
                let row = |t: &crate::lm::Traced| json!([t.sequence, t.token, t.value]);
                json!({ "read": traced.iter().map(row).collect::<Vec<_>>() })
            }
            Event::Failed(refusal) if begun => return http::event(to, &refusal.json().to_string()),
            Event::Failed(refusal) => return http::json(to, refusal.status, &refusal.json()),
            Event::Ended => return http::event(to, "{\"done\":true}"),
        };
        http::event(to, &said.to_string())?;
    }
    Ok(())
}
