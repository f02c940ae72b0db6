//! Reads the metadata keys of one architecture and records which were read. Independent of any architecture.

use super::super::{Gguf, metadata::needed};
use anyhow::{Context, Result, ensure};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Keys that do not affect a text-only forward pass: values that follow from tensors, training settings, other towers.
const HARMLESS: &[&str] =
    &["vocab_size", "tokens_per_image", "pooling_type", "rope.dimension_sections", "tensor_data_layout"];
/// The same, as prefixes.
const OTHER_TOWERS: &[&str] = &["vision.", "audio.", "mm."];

/// The keys of an architecture: `llama.block_count` is `block_count` here.
pub struct Keys<'a> {
    /// The GGUF file.
    pub file: &'a Gguf,
    prefix: String,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Keys<'a> {
    /// The keys of `architecture`.
    pub fn new(file: &'a Gguf, architecture: &str) -> Keys<'a> {
        Keys { file, prefix: format!("{architecture}."), read: RefCell::default() }
    }

    fn key(&self, name: &str) -> String {
        self.read.borrow_mut().insert(name.to_string());
        format!("{}{name}", self.prefix)
    }

    /// A non-negative integer, if present.
    pub fn whole(&self, name: &str) -> Result<Option<u64>> {
        self.file.metadata().whole(&self.key(name))
    }

    /// A positive integer that must be present.
    pub fn size(&self, name: &str) -> Result<u64> {
        let size = needed(&self.key(name), self.whole(name)?)?;
        ensure!(size > 0, "`{}` is 0", self.key(name));
        Ok(size)
    }

    /// A number, if present.
    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        self.file.metadata().number(&self.key(name))
    }

    /// A string, if present.
    pub fn word(&self, name: &str) -> Result<Option<&'a str>> {
        self.file.metadata().word(&self.key(name))
    }

    /// A boolean, if present.
    pub fn switch(&self, name: &str) -> Result<Option<bool>> {
        self.file.metadata().switch(&self.key(name))
    }

    /// Whether the value is a list.
    pub fn is_list(&self, name: &str) -> bool {
        self.wholes(name).is_ok_and(|list| list.is_some())
    }

    /// A list of integers, if present.
    pub fn wholes(&self, name: &str) -> Result<Option<Vec<i64>>> {
        self.file.metadata().wholes(&self.key(name))
    }

    /// Booleans, one per layer (`count` layers), if present.
    pub fn switches(&self, name: &str, count: usize) -> Result<Option<&'a [bool]>> {
        let list = self.file.metadata().switches(&self.key(name))?;
        if let Some(list) = list {
            ensure!(
                list.len() == count,
                "`{}` has {} entries for {count} layers",
                self.key(name),
                list.len()
            );
        }
        Ok(list)
    }

    /// Refuses an integer other than `value`.
    pub fn only(&self, name: &str, value: u64) -> Result<()> {
        let there = self.whole(name)?;
        ensure!(there.is_none_or(|there| there == value), "`{}` is {there:?}, not {value}", self.key(name));
        Ok(())
    }

    /// Refuses keys of the architecture that were not read and may change the computation.
    pub fn finish(&self) -> Result<()> {
        let read = self.read.borrow();
        let known = |name: &str| {
            read.contains(name)
                || HARMLESS.contains(&name)
                || OTHER_TOWERS.iter().any(|tower| name.starts_with(tower))
        };
        let all = self.file.metadata().keys().filter_map(|key| key.strip_prefix(&self.prefix));
        let unknown: BTreeSet<&str> = all.filter(|name| !known(name)).collect();
        let named =
            unknown.iter().map(|name| format!("`{}{name}`", self.prefix)).collect::<Vec<_>>().join(", ");
        ensure!(unknown.is_empty(), "not understood, and it may change what the model computes: {named}");
        Ok(())
    }

    /// The elements of a small tensor, if present.
    pub fn numbers(&self, tensor: &str) -> Result<Option<Vec<f64>>> {
        /// Upper bound on the pairs of a head, far above any real model.
        const MOST: i64 = 1 << 16;
        let Some(stored) = self.file.tensor(tensor) else { return Ok(None) };
        ensure!(
            stored.shape.iter().product::<i64>() <= MOST,
            "tensor `{tensor}` has the shape {:?}",
            stored.shape
        );
        let numbers = self.file.numbers(stored).with_context(|| format!("tensor `{tensor}`"))?;
        Ok(Some(numbers.into_iter().map(super::super::metadata::decimal).collect()))
    }
}
