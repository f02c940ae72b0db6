//! The tensors of a model with an adapter merged into them: W + scale B A in fp32, rounded once to the requested type.

use super::AdapterFiles;
use crate::lm::spec::{Layout, Spec};
use crate::lm::weights::{Shards, TensorSource};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, HashMap};
use tch::{Device, Kind, Tensor};

/// Another source, with some tensors changed by an adapter.
pub struct Merged {
    base: Box<dyn TensorSource>,
    adapter: Shards,
    /// By tensor names in `base`.
    changes: HashMap<String, Change>,
}

/// The change to a tensor; names are those in the adapter's file.
#[derive(Default)]
struct Change {
    /// The tensor that replaces it.
    whole: Option<String>,
    product: Option<Product>,
}

/// The low-rank product of two matrices, `[rank, in]` and `[out, rank]`.
struct Product {
    a: String,
    b: String,
    scale: f64,
    /// Whether the tensor is stored `[in, out]`.
    transposed: bool,
    /// Learned magnitudes of the rows of `[out, in]`.
    magnitude: Option<String>,
}

/// The tensors of one module in an adapter's file.
#[derive(Default)]
struct Found {
    /// By the part of the name after the module's name.
    parts: BTreeMap<String, (String, Vec<i64>)>,
}

impl Merged {
    /// `base`, the weights of the model `spec`, with the adapter merged. Reads only headers.
    ///
    /// # Errors
    /// A tensor of the adapter that matches nothing in the model, does not fit it, or lacks its counterpart.
    pub fn open(base: Box<dyn TensorSource>, files: &AdapterFiles, spec: &Spec) -> Result<Merged> {
        let open = || -> Result<Merged> {
            let config = files.read_config()?;
            let adapter = Shards::open(std::slice::from_ref(&files.weights))?;
            let of_base: HashMap<String, (String, Vec<i64>)> = base
                .tensors()
                .into_iter()
                .map(|(name, shape)| (spec.canonical(&name), (name, shape)))
                .collect();
            let mut modules: BTreeMap<String, Found> = BTreeMap::new();
            for (name, shape) in adapter.tensors() {
                let (module, part) = split(&name)?;
                modules.entry(module).or_default().parts.insert(part.to_string(), (name, shape));
            }
            let mut changes = HashMap::new();
            for (module, mut found) in modules {
                let parts: Vec<String> = found.parts.keys().cloned().collect();
                let bias = found.parts.remove("bias");
                let (rank, scale) = config.rank_and_scale(&module);
                for (kind, change) in [
                    ("weight", found.change(rank, scale, config.magnitudes)),
                    (
                        "bias",
                        Ok(bias.map(|(name, shape)| (Change { whole: Some(name), product: None }, shape))),
                    ),
                ] {
                    let Some((mut change, shape)) = change.with_context(|| format!("`{module}`"))? else {
                        continue;
                    };
                    let name = spec.canonical(&format!("{module}.{kind}"));
                    if spec.spare(&name).is_some() {
                        continue;
                    }
                    ensure!(
                        !spec.tied
                            || ![spec.names.embed, spec.names.unembed]
                                .contains(&name.trim_end_matches(".weight")),
                        "it changes `{module}`, but the model ties its unembedding to its embedding, and PEFT changes \
                         only one of them; merge it with PEFT (`merge_and_unload`) and use the result"
                    );
                    let Some((stored, there)) = of_base.get(&name) else {
                        bail!("`{module}` ({}) is not a module of the model", parts.join(", "));
                    };
                    // Linear maps of blocks may be stored transposed, which the shape of a square one does not show.
                    let in_out = spec.names.layout == Layout::InOut
                        && spec.names.block.split("{}").next().is_some_and(|start| name.starts_with(start));
                    let mut shape = shape;
                    if let Some(product) = change.product.as_mut().filter(|_| in_out) {
                        product.transposed = true;
                        shape.reverse();
                    }
                    ensure!(
                        shape == *there,
                        "`{module}` is for a tensor of {shape:?}, the model's has {there:?}"
                    );
                    changes.insert(stored.clone(), change);
                }
            }
            ensure!(!changes.is_empty(), "it changes nothing of the model");
            Ok(Merged { base, adapter, changes })
        };
        open().with_context(|| format!("adapter {}", files.path.display()))
    }
}

/// Splits a tensor's name in an adapter's file into the module's name in the model and the tensor's role in that
/// module.
fn split(name: &str) -> Result<(String, &str)> {
    const PARTS: [&str; 8] = [
        "lora_A.weight",
        "lora_B.weight",
        "lora_embedding_A",
        "lora_embedding_B",
        "lora_magnitude_vector",
        "base_layer.weight",
        "weight",
        "bias",
    ];
    let inside = name.strip_prefix("base_model.model.");
    let split = inside.and_then(|inside| {
        PARTS.iter().find_map(|part| Some((inside.strip_suffix(part)?.strip_suffix('.')?, *part)))
    });
    let (module, part) =
        split.with_context(|| format!("tensor `{name}` is nothing that PEFT writes for LoRA"))?;
    Ok((module.to_string(), part))
}

impl Found {
    /// The change to the module's weight, and the shape of that weight: `[out, in]` for a map, `[tokens, d_model]` for
    /// a table.
    fn change(&mut self, rank: u64, scale: f64, magnitudes: bool) -> Result<Option<(Change, Vec<i64>)>> {
        let mut take = |part: &str| self.parts.remove(part);
        let (whole, below) = (take("weight"), take("base_layer.weight"));
        ensure!(whole.is_none() || below.is_none(), "it has two weights");
        let whole = whole.or(below);
        let (linear, table) = (
            (take("lora_A.weight"), take("lora_B.weight")),
            (take("lora_embedding_A"), take("lora_embedding_B")),
        );
        let magnitude = take("lora_magnitude_vector");
        let (a, b, is_table) = match (linear, table) {
            ((None, None), (None, None)) => {
                ensure!(magnitude.is_none(), "it has magnitudes alone");
                return Ok(whole.map(|(name, shape)| (Change { whole: Some(name), product: None }, shape)));
            }
            ((Some(a), Some(b)), (None, None)) => (a, b, false),
            ((None, None), (Some(a), Some(b))) => (a, b, true),
            _ => bail!("one of the two halves of its adapter (`lora_A` and `lora_B`) is missing"),
        };
        let ([r_a, inp], [out, r_b]) = (&a.1[..], &b.1[..]) else {
            bail!("its adapter has shapes {:?} and {:?}, not two axes each", a.1, b.1)
        };
        ensure!(
            r_a == r_b && u64::try_from(*r_a)? == rank,
            "its adapter has the ranks {r_a} and {r_b}, adapter_config.json says {rank}"
        );
        ensure!(
            magnitudes == magnitude.is_some() && !(magnitudes && is_table),
            "magnitudes (DoRA) are read where `use_dora` is on, and of linear maps only"
        );
        let magnitude = magnitude.map(|(name, shape)| {
            ensure!(shape.iter().product::<i64>() == *out, "`{name}` has shape {shape:?}, not [{out}]");
            Ok(name)
        });
        let shape = if is_table { vec![*inp, *out] } else { vec![*out, *inp] };
        if let Some((name, whole)) = &whole {
            ensure!(*whole == shape, "`{name}` has shape {whole:?}, its adapter is for {shape:?}");
        }
        let product =
            Product { a: a.0, b: b.0, scale, transposed: is_table, magnitude: magnitude.transpose()? };
        Ok(Some((Change { whole: whole.map(|(name, _)| name), product: Some(product) }, shape)))
    }
}

impl TensorSource for Merged {
    fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        self.base.tensors()
    }

    /// Changed tensors are computed on the CPU, where fp32 takes no device memory.
    fn read(&self, name: &str, kind: Kind, device: Device) -> Result<Tensor> {
        let Some(Change { whole, product }) = self.changes.get(name) else {
            return self.base.read(name, kind, device);
        };
        let of_adapter = |name: &str, kind| self.adapter.read(name, kind, Device::Cpu);
        let Some(product) = product else {
            let whole = whole.as_deref().context("a change of nothing")?;
            return self.adapter.read(whole, kind, device);
        };
        let weight = match whole {
            Some(whole) => of_adapter(whole, Kind::Float)?,
            None => self.base.read(name, Kind::Float, Device::Cpu)?,
        };
        let [a, b] = [&product.a, &product.b].map(|name| of_adapter(name, Kind::Float));
        let change = b?.f_matmul(&a?)?.f_mul_scalar(product.scale)?;
        let change = if product.transposed { change.f_tr()? } else { change };
        let sum = weight.f_add(&change)?;
        let merged = match &product.magnitude {
            None => sum,
            Some(magnitude) => {
                let inputs = [i64::from(!product.transposed)];
                let norms = sum.f_norm_scalaropt_dim(2, inputs, true)?;
                let wanted = of_adapter(magnitude, Kind::Float)?.f_view(norms.size().as_slice())?;
                sum.f_mul(&wanted.f_div(&norms)?)?
            }
        };
        Ok(merged.f_to_kind(kind)?.f_to_device(device)?.contiguous())
    }
}
