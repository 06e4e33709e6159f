"""Losses that fine-tune CLIP while they hold it near a teacher, and the features they take.

Notation: z unit image embeddings ``[b, d]``, W unit text embeddings ``[c, d]``, s the exponential
of the logit scale, T a temperature; logits are ``s z W'``.

LwF, LwF-VR and iCaRL's distillation as published are `zscl_loss` on other inputs: LwF takes the
images and prompts of the task at hand and the model before it as teacher, LwF-VR the same with
random sentences, iCaRL stored images with the task's prompts and the zero-shot model. Neither a
teacher's W nor, where reference images are not augmented, its z ever changes: compute them once.

Sources: Zheng et al. 2023 (ZSCL), section 3; Li and Hoiem 2016 (LwF); Hinton et al. 2015 (D).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64
from torch import Tensor

NEVER = -1e4  # added to the similarity of an image with itself


def unit_images(model: Any, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
    """z of preprocessed images, with gradients where they are on.

    Where the image network is a transformer that is read at its class token, the last block
    computes that token alone, whose outputs are the same up to rounding: of four blocks it saves
    a fifth of the time, of twelve a fifteenth.
    """
    visual: Any = getattr(model, "visual", None)
    if not _reads_class_token(visual):
        return F.normalize(model.encode_image(x).float(), dim=-1)
    tokens = visual._embeds(x)
    first = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    pooled = visual.ln_post(_one_token(visual.transformer, tokens, first, None))
    if visual.proj is not None:
        pooled = pooled @ visual.proj
    return F.normalize(pooled.float(), dim=-1)


def _reads_class_token(visual: Any) -> bool:
    return (
        getattr(visual, "pool_type", "") == "tok"
        and getattr(visual, "attn_pool", None) is None
        and _is_plain(getattr(visual, "transformer", None))
    )


def _is_plain(transformer: Any) -> bool:
    """Whether its blocks are attention and MLP, each behind a norm and beside a shortcut."""
    blocks = getattr(transformer, "resblocks", ())
    checkpoints = getattr(transformer, "grad_checkpointing", False)
    return (
        bool(getattr(transformer, "batch_first", False))
        and not checkpoints
        and len(blocks) > 0
        and all(type(block).__name__ == "ResidualAttentionBlock" for block in blocks)
    )


def _one_token(
    transformer: Any,
    tokens: Float[Tensor, "b p w"],
    places: Int64[Tensor, " b"],
    mask: Float[Tensor, "p p"] | None,
) -> Float[Tensor, "b w"]:
    """The token at one place of each row after all blocks; the last computes no other."""
    *before, last = transformer.resblocks
    for block in before:
        tokens = block(tokens, attn_mask=mask)
    rows = torch.arange(len(tokens), device=tokens.device)
    every = last.ln_1(tokens)
    seen = None
    if mask is not None:
        attention = last.attn
        heads = attention.heads if hasattr(attention, "heads") else attention.num_heads
        seen = mask[places].repeat_interleave(heads, dim=0)[:, None]
    mixed = last.attention(every[rows, places][:, None], every, every, attn_mask=seen)[:, 0]
    token = tokens[rows, places] + last.ls_1(mixed)
    return token + last.ls_2(last.mlp(last.ln_2(token)))


def unit_texts(model: Any, ids: Int64[Tensor, "c length"]) -> Float[Tensor, "c d"]:
    """W of tokenised sentences, with gradients where they are on.

    Where the text network is causal and reads its end token, columns behind the last end token are
    left out: nothing of them reaches an end token. W is the same up to rounding; prompts of 14 out
    of 77 tokens take about a fifth of the time. The last block computes the end tokens alone.
    """
    reads_end = getattr(model, "text_pool_type", "") == "argmax"
    if not reads_end or getattr(model, "attn_mask", None) is None:
        return F.normalize(model.encode_text(ids).float(), dim=-1)
    ends = ids.argmax(dim=1)  # the end token has the highest id
    n = int(ends.max()) + 1
    tokens = model.token_embedding(ids[:, :n]) + model.positional_embedding[:n]
    mask = model.attn_mask[:n, :n]
    if _is_plain(model.transformer):
        pooled = model.ln_final(_one_token(model.transformer, tokens, ends, mask))
    else:
        tokens = model.transformer(tokens, attn_mask=mask)
        pooled = model.ln_final(tokens)[torch.arange(len(ids), device=ids.device), ends]
    projection = model.text_projection
    if isinstance(projection, torch.nn.Linear):
        pooled = projection(pooled)
    elif projection is not None:
        pooled = pooled @ projection
    return F.normalize(pooled.float(), dim=-1)


def classification_loss(
    z: Float[Tensor, "b d"],
    W: Float[Tensor, "c d"],
    labels: Int[Tensor, " b"],
    scale: float,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, of the logits ``s z W'``: plain fine-tuning.

    Args:
        smoothing: share of each label's weight that is spread evenly over all classes
            (published: 0.2).
    """
    return F.cross_entropy(scale * z @ W.T, labels, label_smoothing=smoothing)


def distillation(
    teacher_logits: Float[Tensor, "b c"], student_logits: Float[Tensor, "b c"], temperature: float
) -> Float[Tensor, ""]:
    """D = T^2 times the cross-entropy of softmax(teacher / T) and softmax(student / T), row mean.

    A cross-entropy, no divergence: for equal logits it is T^2 times their entropy, in nats, and
    its gradient is zero. The teacher gets no gradient.
    """
    target = (teacher_logits.detach() / temperature).softmax(dim=1)
    return temperature**2 * F.cross_entropy(student_logits / temperature, target)


def zscl_loss(
    z_student: Float[Tensor, "b d"],
    z_teacher: Float[Tensor, "b d"],
    W_teacher: Float[Tensor, "c d"],
    scale: float,
    temperature: float,
    *,
    image: bool,
    text: bool,
    weight: float = 1.0,
) -> Float[Tensor, ""]:
    """ZSCL's distillation on a batch of reference images and all reference sentences.

    weight (D_image + D_text), where D_image compares teacher and student by image, over the
    sentences, and D_text by sentence, over the images of the batch. Both take the teacher's W, so
    that the student's text network gets no gradient from here.

    Args:
        image, text: which of the two terms count. Without both the loss is zero, training is plain
            fine-tuning, and a warning says so.
        weight: of each term (published: 1, or 0.5 where it is adjusted).
    """
    if not (image or text):
        warnings.warn(
            "zscl_loss: image and text are both off, so this is plain fine-tuning; turn one on, "
            "or leave the reference images out and save their time",
            stacklevel=2,
        )
        return z_student.new_zeros(())
    W = W_teacher.detach()
    teacher, student = scale * z_teacher.detach() @ W.T, scale * z_student @ W.T
    loss = z_student.new_zeros(())
    if image:
        loss = loss + weight * distillation(teacher, student, temperature)
    if text:
        loss = loss + weight * distillation(teacher.T, student.T, temperature)
    return loss


def feature_mse(
    z_student: Float[Tensor, "b d"], z_teacher: Float[Tensor, "b d"]
) -> Float[Tensor, ""]:
    """Mean over all entries of (z_student - z_teacher)^2; the teacher gets no gradient."""
    return F.mse_loss(z_student, z_teacher.detach())


def image_similarity_loss(
    z_student: Float[Tensor, "b d"],
    z_teacher: Float[Tensor, "b d"],
    scale: float,
    temperature: float,
) -> Float[Tensor, ""]:
    """D of the similarities ``s z z'`` of a batch's images with one another; needs no sentences.

    The similarity of an image with itself is left out: it would be nearly all of the softmax.
    Source: ZSCL's code, its second ablation loss.
    """
    itself = NEVER * torch.eye(len(z_student), device=z_student.device)
    z_teacher = z_teacher.detach()
    teacher = scale * z_teacher @ z_teacher.T + itself
    return distillation(teacher, scale * z_student @ z_student.T + itself, temperature)


def weight_consolidation(
    parameters: Mapping[str, Tensor], start: Mapping[str, Tensor], strength: float
) -> Float[Tensor, ""]:
    """strength times the sum, over all parameters, of the squared distance to the start.

    Args:
        parameters: those that train, by name.
        start: their values at the start of the task; may hold more.
    """
    parts = [(p - start[name].detach()).square().sum() for name, p in parameters.items()]
    return strength * torch.stack(parts).sum()
