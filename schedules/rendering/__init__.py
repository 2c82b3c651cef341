"""Values as text and HTML for people: durations, instants, statuses, Markdown, patches. Everything is escaped here.

Beside `schedules.admin` and not in it, for the template library needs it: Unfold renders a widget, and so loads every
template library, while the admin is still being imported.
"""
