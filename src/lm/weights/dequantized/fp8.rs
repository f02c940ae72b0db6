//! FP8 (e4m3) with separate scales: one per block of a matrix, or one per matrix. A weight is the stored number times
//! its scale.

use super::{Map, Part, Parts, Rows, parts};
use crate::lm::weights::{Shards, TensorSource};
use anyhow::{Context, Result, ensure};
use safetensors::Dtype as FileDtype;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// Finds every tensor of type e4m3, with its scales. Activation scales are not used: activations are not quantised.
pub fn maps(of: &mut Parts, block: Option<[usize; 2]>) -> Result<HashMap<String, Box<dyn Map>>> {
    let mut maps: HashMap<String, Box<dyn Map>> = HashMap::new();
    let names: Vec<String> = of.left.keys().cloned().collect();
    for name in names {
        let Some(weight) = of.find(&name).filter(|part| part.dtype == FileDtype::F8_E4M3) else { continue };
        of.take(&name);
        let scale = of.need(&format!("{name}_scale_inv"), &name)?;
        if let Some(module) = name.strip_suffix(".weight") {
            of.take(&format!("{module}.activation_scale"));
        }
        ensure!(weight.shape.len() >= 2, "tensor `{name}` has shape {:?}, not that of a map", weight.shape);
        maps.insert(name, Box::new(Scaled::new(weight, scale, block)?));
    }
    Ok(maps)
}

struct Scaled {
    weight: Part,
    scale: Part,
    /// Rows and columns of a block that shares a scale.
    block: [i64; 2],
}

impl Scaled {
    fn new(weight: Part, scale: Part, block: Option<[usize; 2]>) -> Result<Scaled> {
        let (ahead, matrix) = weight.shape.split_at(weight.shape.len() - 2);
        let block = match block {
            Some([rows, columns]) => [i64::try_from(rows)?, i64::try_from(columns)?],
            None => [matrix[0].max(1), matrix[1].max(1)],
        };
        let grid = [parts(matrix[0], block[0]), parts(matrix[1], block[1])];
        let wanted = [ahead, &grid].concat();
        let of = [FileDtype::F32, FileDtype::BF16, FileDtype::F16];
        // A single scale for a matrix is stored without some or all of the axes.
        let numbers: i64 = wanted.iter().product();
        let shape = if grid == [1, 1] && scale.numbers() == numbers { scale.shape.clone() } else { wanted };
        let scale = scale.is(&of, &shape).with_context(|| format!("scales of `{}`", weight.name))?;
        Ok(Scaled { weight, scale, block })
    }
}

impl Map for Scaled {
    fn shape(&self) -> Vec<i64> {
        self.weight.shape.clone()
    }

    fn bring(&self, stored: &Shards, device: Device) -> Result<Box<dyn Rows>> {
        let [.., rows, columns] = self.weight.shape[..] else { unreachable!("at least two axes") };
        let weight = stored.stored(&self.weight.name, device)?.f_view([-1, columns])?;
        let scale = stored.read(&self.scale.name, Kind::Float, device)?;
        let scale = scale.f_view([-1, parts(rows, self.block[0]), parts(columns, self.block[1])])?;
        // Expands the scales to one row per row of each matrix.
        let scale = scale.f_repeat_interleave_self_int(self.block[0], 1, None)?.f_narrow(1, 0, rows)?;
        let scale = scale.f_reshape([-1, parts(columns, self.block[1])])?;
        Ok(Box::new(Brought { weight, scale, columns: self.block[1] }))
    }
}

struct Brought {
    /// `[rows, input]`
    weight: Tensor,
    /// `[rows, blocks of columns]`
    scale: Tensor,
    /// Number of columns that share a scale.
    columns: i64,
}

impl Rows for Brought {
    fn rows(&self, from: i64, n: i64) -> Result<Tensor> {
        let weight = self.weight.f_narrow(0, from, n)?.f_to_kind(Kind::Float)?;
        let scale = self.scale.f_narrow(0, from, n)?;
        let scale = scale.f_repeat_interleave_self_int(self.columns, 1, None)?;
        Ok(weight.f_mul(&scale.f_narrow(1, 0, self.weight.size()[1])?)?)
    }
}
