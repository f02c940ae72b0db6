//! Dot products of the residual stream with given directions, per token. Independent of the meaning of the directions.

use super::backend::Backend;
use super::batch::Batch;
use super::device::{fetch, send};
use super::hook::Hook;
use super::layer::Layer;
use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

/// Computes dot products of the residual stream with directions at several layers, on the model's device; only the
/// products are copied back.
pub struct Project {
    sites: Vec<Site>,
    backend: Backend,
}

struct Site {
    layer: Layer,
    /// `[directions, d_model]` fp32 on the device.
    directions: Tensor,
    /// `[batch, pos, directions]` fp32 on the device, in the batch's layout.
    products: Option<Tensor>,
}

impl Project {
    /// `directions`: for each layer `[directions, d_model]`, flattened by rows; the same number of directions at each
    /// layer.
    ///
    /// # Errors
    /// A device without a backend.
    pub fn new(layers: &[Layer], directions: &[Vec<f32>], d_model: usize, device: Device) -> Result<Project> {
        let site = |(&layer, rows): (&Layer, &Vec<f32>)| Site {
            layer,
            directions: send(&Tensor::from_slice(rows).view([-1, d_model as i64]), device),
            products: None,
        };
        let sites = layers.iter().zip(directions).map(site).collect();
        Ok(Project { sites, backend: Backend::chosen(device)? })
    }

    /// The products of the last pass, `[layer, batch, pos, directions]` in fp32 on the CPU, in the batch's layout (see
    /// [`Batch::row`]); values for padding are meaningless. One copy to the host.
    ///
    /// # Errors
    /// No layers, or one that the pass did not reach.
    pub fn take(&mut self) -> Result<Tensor> {
        ensure!(!self.sites.is_empty(), "no layer was to be read");
        let mut all = Vec::new();
        for site in &mut self.sites {
            let products = site.products.take();
            all.push(
                products.with_context(|| format!("the forward pass did not reach layer {}", site.layer))?,
            );
        }
        Ok(fetch(&Tensor::stack(&all, 0)))
    }
}

impl Hook for Project {
    fn resid_post(&mut self, layer: Layer, resid: Tensor, _: &Batch) -> Tensor {
        for site in self.sites.iter_mut().filter(|site| site.layer == layer) {
            let wide = resid.to_kind(Kind::Float);
            site.products = Some(self.backend.linear(&wide, &site.directions, None));
        }
        resid
    }

    fn first(&self) -> Option<Layer> {
        self.sites.iter().map(|site| site.layer).min()
    }
}
