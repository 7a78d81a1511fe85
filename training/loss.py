"""Cross-entropy over a large vocabulary, exact or with a sampled normaliser, and its gradient in one pass.

A word-level model spends most of its training time on the softmax over the vocabulary. Two methods make it cheap here.

1. Sampling. The normaliser of P(t) = exp(z_t) / sum_j exp(z_j) is estimated from the target, the `head`, and a sample
   of the rest. The head is the most frequent words, which have nearly all of the probability; all of them count. The
   sample is uniform, without replacement. A sampled word counts 1/π times; π is its probability to be drawn:

       Z ≈ exp(z_t) + sum_{j in head, j≠t} exp(z_j) + sum_{j in sample, j≠t} exp(z_j) / π

   The estimate of Z is unbiased (Horvitz & Thompson 1952); importance sampling for language models is due to Bengio &
   Senécal 2003, one sample shared by a batch to Jean et al. 2015. The full head keeps the variance far below that of a
   log-uniform sample of the same size. With as many samples as words, the loss is exact.
2. Fusion. The gradient is computed together with the loss, not recorded by autograd. Rows are processed in chunks that
   fit the processor's cache: logits, probabilities p, d/dx = (p - 1_t) W and d/dW = (p - 1_t)' x. So no tensor of size
   (tokens, vocabulary) is kept. Matrix products are in `dtype`, sums in float32.
"""
from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

CHUNK = 320  # rows of a chunk: its logits for some 8,000 words fit the processor's cache
CUDA_CHUNK = 2048  # rows of a chunk on a GPU, which is fast with large products only


def sample_candidates(vocabulary_size: int, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw the words of the normaliser: ids (samples,) and log-weights log(1/π) (samples,), float32.

    Half of the samples are the most frequent words. If samples >= vocabulary_size, the samples are all words, with
    weight 1.
    """
    if samples >= vocabulary_size:
        return torch.arange(vocabulary_size), torch.zeros(vocabulary_size)
    head = samples // 2
    rest = torch.randperm(vocabulary_size - head, generator=generator)[: samples - head] + head
    weights = torch.zeros(samples)
    weights[head:] = math.log((vocabulary_size - head) / (samples - head))
    return torch.cat([torch.arange(head), rest]), weights


class _CandidateCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, outputs: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, candidates: Tensor,
                log_weights: Tensor, dtype: torch.dtype) -> Tensor:
        n, size = outputs.shape
        x = outputs.detach().to(dtype)
        candidate_weight = weight.detach()[candidates].to(dtype)
        offset = bias.detach()[candidates] + log_weights
        target_weight = weight.detach()[targets]
        z_target = (outputs.detach().float() * target_weight).sum(1) + bias.detach()[targets]
        column = targets.new_full((len(weight),), -1)
        column[candidates] = torch.arange(len(candidates), device=column.device)
        column = column[targets]

        losses = outputs.new_empty(n, dtype=torch.float32)
        d_outputs = outputs.new_empty(n, size, dtype=torch.float32)
        d_candidates = torch.zeros(len(candidates), size, device=outputs.device)
        d_offset = torch.zeros(len(candidates), device=outputs.device)
        d_target = outputs.new_empty(n, dtype=torch.float32)
        chunk = CUDA_CHUNK if outputs.is_cuda else CHUNK
        p = torch.empty(min(chunk, n), len(candidates) + 1, device=outputs.device)
        for start in range(0, n, chunk):
            rows = slice(start, min(start + chunk, n))
            xs, ps = x[rows], p[: rows.stop - start]
            torch.add(xs @ candidate_weight.t(), offset, out=ps[:, :-1])
            own = torch.where(column[rows] < 0, len(candidates), column[rows])[:, None]
            ps.scatter_(1, own, -math.inf)  # the target counts only once, in the last column
            ps[:, -1] = z_target[rows]
            torch.log_softmax(ps, 1, out=ps)
            losses[rows] = -ps[:, -1]
            ps.exp_()
            d_target[rows] = ps[:, -1] - 1
            d_offset += ps[:, :-1].sum(0)
            low = ps[:, :-1].to(dtype)
            d_outputs[rows] = low @ candidate_weight
            d_candidates += low.t() @ xs
        d_outputs += d_target[:, None] * target_weight
        ctx.save_for_backward(outputs, d_outputs, d_candidates, d_offset, d_target, targets, candidates)
        ctx.vocabulary_size = len(weight)
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        outputs, d_outputs, d_candidates, d_offset, d_target, targets, candidates = ctx.saved_tensors
        scale = gradient / len(outputs)
        d_weight = d_candidates.new_zeros(ctx.vocabulary_size, outputs.shape[1])
        d_weight.index_add_(0, candidates, d_candidates * scale)
        d_weight.index_add_(0, targets, (scale * d_target)[:, None] * outputs.float())
        d_bias = d_offset.new_zeros(ctx.vocabulary_size)
        d_bias.index_add_(0, candidates, d_offset * scale)
        d_bias.index_add_(0, targets, d_target * scale)
        return (d_outputs * scale).to(outputs.dtype), d_weight, d_bias, None, None, None, None


def cross_entropy(
    outputs: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    candidates: Tensor,
    log_weights: Tensor,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The mean loss in nats a token, a scalar. It is exact if the candidates are the whole vocabulary.

    outputs (n, embedding), weight (vocabulary, embedding), bias (vocabulary,), targets (n,) int64; candidates and
    log_weights from `sample_candidates`.
    """
    return _CandidateCrossEntropy.apply(outputs, weight, bias, targets, candidates, log_weights, dtype)
