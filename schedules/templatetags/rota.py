"""`{% load rota %}`: the pieces of `schedules.rendering`, for the templates."""

from __future__ import annotations

from django import template

from schedules.rendering import display, markdown, strip, visible

register = template.Library()

register.simple_tag(display.pill, name="pill")
register.simple_tag(display.instant, name="instant")
register.simple_tag(display.viewer_time, name="viewer_time")
register.simple_tag(display.zoned, name="zoned")
register.simple_tag(strip.strip, name="strip")
register.filter("why", display.reason_words)
register.filter("took", display.took)
register.filter("money", display.money)
register.filter("cost", display.cost)
register.filter("amount", display.amount)
register.filter("when", display.when)
register.filter("no_further", display.no_further)
register.filter("held_back", display.held_back)
register.filter("pretty", display.pretty)
register.filter("visible", visible.visible)
register.filter("shorten", visible.shorten)
register.filter("markdown", markdown.to_html)
