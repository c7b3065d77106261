"""The forward passes of an adapted network."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from rsft.errors import RequestError
from rsft.peft.kernels import use_kernels
from rsft.peft.model.stage_runner import ForwardOptions, StageRunner, without_gradient
from rsft.peft.model.stages import EMBEDDING
from rsft.peft.modulator import Modulator
from rsft.peft.modules.adapter_module import AdapterModule, Tensors, require_tokens
from rsft.peft.modules.scaled import LowRankModule


class ForwardPasses(nn.Module):
    """A transformer with PEFT modules.

    It runs from images, or from the tokens before the first adapted stage.

    Args:
        runner: runs the stages of the transformer.
        adapter_modules: the modules, injected in this order.
        modulator: one learned scale for every site, or None.
    """

    def __init__(
        self,
        runner: StageRunner,
        adapter_modules: Sequence[AdapterModule],
        modulator: Modulator | None,
    ) -> None:
        super().__init__()
        self.vit = cast(nn.Module, runner.stages.vit)
        # the attribute names are keys of stored states
        self.additive = nn.ModuleList(adapter_modules)
        self.modulator = modulator
        self._runner = runner
        self._split: int | None = None
        self._first_trained_stage = EMBEDDING
        self._checkpointing = False
        self._output_blocks: tuple[int, ...] = ()

    @property
    def adapter_modules(self) -> list[AdapterModule]:
        """The PEFT modules in the order of their injection."""
        return cast(list[AdapterModule], list(self.additive))

    @property
    def theta(self) -> list[nn.Parameter]:
        """Parameters of the PEFT modules that the inner loop trains.

        These are all of them, unless `keep_before` keeps some.
        """
        return self._split_parameters()[1]

    @property
    def gamma(self) -> list[nn.Parameter]:
        """The modulator's parameter, which only the outer loop trains.

        It is empty if no scale is learned.
        """
        if not self.modulator or self.modulator.is_frozen:
            return []
        return [self.modulator.gamma]

    @property
    def first_adapted_stage(self) -> int:
        """The first stage with an injected module.

        -1 is the embedding, 0 to L - 1 a block, L the final norm, and L + 1 no stage.
        """
        stages = self._runner.stages
        placements = (module.placements for module in self.adapter_modules)
        numbers = map(stages.stage_of, chain.from_iterable(placements))
        return min(numbers, default=stages.depth + 1)

    def keep_before(self, stage: int) -> None:
        """Keep the modules and scales before a stage: `theta` does not contain them.

        Tensors that several blocks share are kept too. The outputs of the kept stages
        can be cached (`run_frozen_prefix`).

        Args:
            stage: the first stage that is trained, such as a block.
        """
        self._first_trained_stage = stage
        if self.modulator:
            for site in self.modulator.sites:
                if site.block < stage:
                    self.modulator.freeze(str(site))

    @property
    def kept_blocks(self) -> int:
        """Number of first blocks that `keep_before` keeps as they are."""
        return max(0, min(self._first_trained_stage, self._runner.stages.depth))

    def stage_of(self, name: str) -> int:
        """Return the stage of a learned tensor.

        -1 is the embedding, 0 to L - 1 a block, and L the final norm.

        Args:
            name: a key of `adapter_state` other than "gamma".
        """
        return self._runner.stages.stage_of(name)

    @property
    def output_blocks(self) -> tuple[int, ...]:
        """Blocks whose outputs `run_suffix_with_blocks` returns; none by default."""
        return self._output_blocks

    @output_blocks.setter
    def output_blocks(self, blocks: Sequence[int]) -> None:
        if blocks:
            require_tokens(
                self.vit,
                "a head on an earlier block",
                "it reads patch tokens of one width",
            )
        last = self._runner.stages.depth - 1
        wrong = [block for block in blocks if not 0 <= block < last]
        if wrong:
            message = (
                f"of the {last + 1} blocks of the network, 0 to {last - 1} come before"
                " the last one, not"
            )
            raise ValueError(f"{message} {', '.join(map(str, wrong))}")
        self._output_blocks = tuple(sorted(set(blocks)))

    @property
    def prefix_end(self) -> int:
        """The stage before which `run_frozen_prefix` stops.

        It is the first trained stage, or the one after an output block.
        """
        first_trained = max(self.first_adapted_stage, self._first_trained_stage)
        return min([first_trained, *(block + 1 for block in self.output_blocks)])

    @property
    def checkpointing(self) -> bool:
        """Whether each block stores only its input.

        The backward pass then computes the block again.
        """
        return self._checkpointing or bool(
            getattr(self.vit, "grad_checkpointing", False)
        )

    @checkpointing.setter
    def checkpointing(self, enabled: bool) -> None:
        if enabled and not self._runner.stages.runs_by_stage:
            raise ValueError(
                f"{type(self.vit).__name__} cannot run block by block, so it cannot be"
                " checkpointed"
            )
        self._checkpointing = enabled

    def compile_blocks(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compile the blocks of training steps, for the batch sizes that occur.

        They run by plain autograd. Low-rank additions with dropout cannot be compiled.

        Args:
            backend: of `torch.compile`.

        Raises:
            RequestError: low-rank additions have dropout.
        """
        from rsft.peft.model.compiled_block import CompiledBlock  # imports the compiler

        for module in self.adapter_modules:
            if isinstance(module, LowRankModule) and any(module.dropouts.values()):
                raise RequestError(
                    "low-rank additions with dropout cannot be compiled",
                    "train.compile",
                    "set peft.dropout=0 or train.compile=false",
                )
        self._runner.compiled = CompiledBlock(backend)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the PEFT modules.

        The transformer's own dropout and stochastic depth stay off.

        Args:
            mode: True for training.

        Returns:
            The model itself.
        """
        super().train(mode)
        self.vit.eval()
        for module in self.adapter_modules:
            module.set_network_training(
                mode, lambda path: self.stage_of(path) < self._first_trained_stage
            )
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Run images through the network and the transformer's head.

        Args:
            x: images (B, P, S, S).

        Returns:
            Output of the head, (B, C), or features (B, D) without a classifier.
        """
        vit = cast(Any, self.vit)
        token_pool = (
            getattr(vit, "global_pool", None) == "token"
            and getattr(vit, "cls_token", None) is not None
        )
        features = self.forward_features(x, class_token_only=token_pool)
        if self._split is None:
            return cast(Tensor, vit.forward_head(features))
        inner = vit.forward_head(features[: self._split])
        with without_gradient(self.theta):  # the head may be trained too
            return torch.cat([inner, vit.forward_head(features[self._split :])])

    def forward_features(self, x: Tensor, *, class_token_only: bool = False) -> Tensor:
        """Run images through the network up to the final norm.

        Args:
            x: images (B, P, S, S).
            class_token_only: return only the class token.

        Returns:
            Tokens (B, N, D), or (B, 1, D) if `class_token_only`.
        """
        return self.run_suffix_with_blocks(
            self.run_frozen_prefix(x), class_token_only=class_token_only
        )[0]

    @torch.no_grad()
    def run_frozen_prefix(self, x: Tensor) -> Tensor:
        """Run images up to a stage that training does not change (`prefix_end`).

        Args:
            x: images (B, P, S, S).

        Returns:
            The input of the stage, tokens (B, N, D); the images if the embedding is
            trained, or if the stages after it need more than tokens.
        """
        if not self._runner.stages.can_cache_tokens(x):
            return x
        is_training = self.additive.training
        # kept modules have no dropout; a change of mode takes as long as a small block
        if is_training:
            self.additive.eval()
        try:
            return self._runner.run(x, EMBEDDING, self.prefix_end, ForwardOptions())[0]
        finally:
            if is_training:
                self.additive.train()

    def run_suffix_with_blocks(
        self, x: Tensor, *, class_token_only: bool = False
    ) -> Tensors:
        """Run the output of `run_frozen_prefix` up to the final norm.

        Outputs of earlier blocks are returned as well.

        Args:
            x: output of `run_frozen_prefix`.
            class_token_only: return only the class token. A standard last block
                computes no other token. It does not concern the earlier blocks.

        Returns:
            Tokens (B, N, D), or (B, 1, D) if `class_token_only`, then for each block of
            `output_blocks` its tokens (B, N, D); see `patch_tokens`.

        Raises:
            ValueError: `class_token_only` with a network without class token.
        """
        if class_token_only and getattr(self.vit, "cls_token", None) is None:
            raise ValueError(f"{type(self.vit).__name__} has no class token")
        kept = self._split_parameters()[0]
        options = ForwardOptions(
            class_token_only=class_token_only,
            checkpointing=self.checkpointing,
            output_blocks=self.output_blocks,
            no_grad_parameters=kept,
        )
        if self._split is None or self._kernels_split_rows():
            return self._run_suffix(x, options._replace(split=self._split))
        inner = self._run_suffix(
            x[: self._split],
            options._replace(no_grad_parameters=[*kept, *self.gamma]),
        )
        outer = self._run_suffix(
            x[self._split :],
            options._replace(no_grad_parameters=[*kept, *self.theta]),
        )
        return tuple(torch.cat(tokens) for tokens in zip(inner, outer, strict=True))

    def patch_tokens(self, tokens: Tensor) -> Tensor:
        """Return the patch tokens of a block's output.

        They follow prefix tokens and prompts.

        Args:
            tokens: the output of a block (B, N, D).

        Returns:
            Tokens (B, M, D), one per patch.
        """
        return tokens[
            :, tokens.shape[1] - int(cast(Any, self.vit).patch_embed.num_patches) :
        ]

    @contextmanager
    def joint(self, split: int) -> Iterator[None]:
        """Treat batches as [inner ; meta] items.

        The first `split` items give theta's gradient, the others gamma's.

        Only forward passes through this object do so, not passes through `vit`.

        Args:
            split: number of inner items, 1 or more.

        Yields:
            Nothing.
        """
        self._split = split
        try:
            yield
        finally:
            self._split = None

    def _run_suffix(self, x: Tensor, options: ForwardOptions) -> Tensors:
        first = EMBEDDING if x.ndim == 4 else self.prefix_end
        last = self._runner.stages.depth + 1
        uses_kernels = use_kernels(x.device, self._runner.kernels)
        is_plain = self._runner.compiled is not None or not uses_kernels
        needs_each = options.checkpointing or options.split is not None
        with ExitStack() as stack:
            # The sites share operators on learned scales. The kernels do without, and a
            # checkpointed block computes its scales again.
            if self.modulator and is_plain and not needs_each:
                stack.enter_context(without_gradient(options.no_grad_parameters))
                stack.enter_context(self.modulator.compute_together())
                for module in self.adapter_modules:
                    if isinstance(module, LowRankModule):
                        stack.enter_context(module.scale_together())
            tokens, *block_tokens = self._runner.run(x, first, last, options)
        return tokens[:, :1] if options.class_token_only else tokens, *block_tokens

    def _split_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the kept parameters (`keep_before`) and the trained ones."""
        if self._first_trained_stage == EMBEDDING:
            return [], list(self.additive.parameters())
        kept: list[nn.Parameter] = []
        trained: list[nn.Parameter] = []
        for module in self.adapter_modules:
            for name, parameter in module.named_parameters():
                is_kept = (
                    self.stage_of(name.replace("/", ".")) < self._first_trained_stage
                )
                (kept if is_kept else trained).append(parameter)
        return kept, trained

    def _kernels_split_rows(self) -> bool:
        """Return whether the kernels support `split` here.

        Only low-rank additions are injected, and only in standard blocks.
        """
        stages = self._runner.stages
        adapted_blocks = range(max(self.first_adapted_stage, 0), stages.depth)
        by_kernel = stages.runs_by_stage and all(
            self._runner.uses_kernel(index) for index in adapted_blocks
        )
        is_low_rank = all(
            isinstance(module, LowRankModule) for module in self.adapter_modules
        )
        # the kernels give the gradient of B, into which factors of features are
        # multiplied, for the first rows alone
        has_factors = self.modulator is not None and len(self.modulator.gamma) > len(
            self.modulator.sites
        )
        return by_kernel and is_low_rank and not has_factors
