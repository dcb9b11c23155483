"""A command whose help shows its options under headings, in the order in which users need them."""

from __future__ import annotations

import click

GROUPS = {
    "Text": (
        *("models", "length", "num_samples", "seed", "stop_at_end", "window", "stride", "source"),
        *("candidates", "choose_length", "top"),
    ),
    "Files": ("data", "field", "out", "resume", "overwrite"),
    "Sampler": (
        *(
            "sampler",
            "steps",
            "tokens_per_step",
            "temperature",
            "grid",
            "confidence_metric",
            "threshold",
        ),
        *("factor", "gamma", "eta", "edit_threshold", "alg_temperature", "burn_in"),
    ),
    "Filters": ("top_p", "top_p_crossing", "top_k", "min_p", "repetition_penalty", "ban", "unban"),
    "Constraints": ("matching",),
    "Guidance": ("guidance_scale", "classifier", "label", "classifier_scale", "classifier_top_k"),
    "Output": ("as_json", "gif", "html", "frames", "no_animate"),
    "Model and speed": ("model", "backend", "device", "cache"),
}
"""Names of parameters by the heading of their group; what is in none comes last."""


class GroupedCommand(click.Command):
    """A command with its options in ``GROUPS``."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options into the formatter, one section a group."""
        options = {p.name: p for p in self.get_params(ctx) if isinstance(p, click.Option)}
        named = {name for names in GROUPS.values() for name in names}
        rest = tuple(name for name in options if name not in named)
        for heading, names in (GROUPS | {"Other": rest}).items():
            known = [options[name].get_help_record(ctx) for name in names if name in options]
            if records := [record for record in known if record is not None]:
                with formatter.section(heading):
                    formatter.write_dl(records)
