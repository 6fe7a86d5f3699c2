"""A group of commands that offers the nearest name for a misspelt one."""

from __future__ import annotations

import click


class Group(click.Group):
    """As click's, with a suggestion in every version of click."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names. Raises click's UsageError with the nearest name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"see: {ctx.command_path} --help"
            raise click.UsageError(f"no command {args[0]!r}; {hint}", ctx) from None
