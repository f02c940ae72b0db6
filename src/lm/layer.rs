//! Positions in the residual stream that are read and steered. Independent of models.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A position in the residual stream: before the first block, or after one of the blocks.
///
/// In text and JSON it is `embed` or the block's number; in tables it is a number, with -1 for `embed`. `number + 1`
/// blocks have been run, and it is always Hugging Face's `hidden_states[number + 1]` (except for the last block).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// `resid_pre[0]`: the token's embedding, as input of the first block. It contains nothing about other tokens.
    Embed,
    /// `resid_post[l]` of block `l`, counted from 0.
    Block(usize),
}

/// The word for [`Layer::Embed`].
pub const EMBED: &str = "embed";

impl Layer {
    /// The block after which it is; `None` for the embedding.
    pub fn block(self) -> Option<usize> {
        match self {
            Layer::Embed => None,
            Layer::Block(block) => Some(block),
        }
    }

    /// The number used in tables.
    pub fn number(self) -> i32 {
        self.block().map_or(-1, |block| block as i32)
    }

    /// The layer with this number in a table; `None` below -1.
    pub fn of_number(number: i32) -> Option<Layer> {
        match number {
            -1 => Some(Layer::Embed),
            _ => usize::try_from(number).ok().map(Layer::Block),
        }
    }

    /// Number of blocks that are run up to this layer.
    pub fn blocks(self) -> usize {
        self.block().map_or(0, |block| block + 1)
    }

    /// Relative depth in a model of `n_layers` blocks: 0 for the embedding, and the middle of block `l`,
    /// `(l + 0.5) / n_layers`.
    pub fn depth(self, n_layers: usize) -> f64 {
        self.block().map_or(0.0, |block| (block as f64 + 0.5) / n_layers as f64)
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layer::Embed => f.write_str(EMBED),
            Layer::Block(block) => write!(f, "{block}"),
        }
    }
}

impl Serialize for Layer {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Layer::Embed => to.serialize_str(EMBED),
            Layer::Block(block) => block.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Layer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Layer, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        let block = value.as_u64().and_then(|block| usize::try_from(block).ok()).map(Layer::Block);
        let embed = (value == EMBED).then_some(Layer::Embed);
        block.or(embed).ok_or_else(|| serde::de::Error::custom(format!("{value} is no layer")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedding_comes_before_the_first_block() {
        let all = [Layer::Embed, Layer::Block(0), Layer::Block(9), Layer::Block(10)];
        assert!(all.is_sorted());
        assert_eq!(all.map(Layer::number), [-1, 0, 9, 10]);
        assert_eq!(all.map(|layer| Layer::of_number(layer.number())), all.map(Some));
        assert_eq!(Layer::of_number(-2), None);
        assert_eq!(all.map(Layer::blocks), [0, 1, 10, 11]);
        assert_eq!(
            [Layer::Embed.depth(4), Layer::Block(1).depth(4), Layer::Block(3).depth(4)],
            [0.0, 0.375, 0.875]
        );
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(json, "[\"embed\",0,9,10]");
        assert_eq!(serde_json::from_str::<[Layer; 4]>(&json).unwrap(), all);
        assert!(serde_json::from_str::<Layer>("-1").is_err());
    }
}
