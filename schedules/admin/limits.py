"""Limits that schedules share: pools, budgets with what was spent of them, and the providers that let nobody in."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeVar

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminExpandableTextareaWidget

from schedules import quota
from schedules.admin.asking import ConfirmForm, ask
from schedules.admin.fields import SuggestingInput
from schedules.admin.read_only import ReadOnlyAdmin
from schedules.admin.unfolded import ChangeList, ModelAdmin, ModelForm
from schedules.agents import providers
from schedules.budgets import Account
from schedules.models import Budget, Hold, Pool, Spending
from schedules.places import Places
from schedules.pools import too_wide_for
from schedules.rendering.display import NOTHING, counted, instant, money, pill
from schedules.tasks import dispatch

LIFT = "schedules.change_hold"
"""The permission to lift a hold."""
_NEARLY_SPENT = 80  # per cent of a budget
_MOST_NAMED = 5

_Limit = TypeVar("_Limit", bound=Model)


class LimitAdmin(ModelAdmin[_Limit]):
    """A limit of people's making. What waited for one that is changed or deleted starts at once."""

    def save_model(self, request: HttpRequest, obj: _Limit, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        transaction.on_commit(dispatch)

    def delete_model(self, request: HttpRequest, obj: _Limit) -> None:
        super().delete_model(request, obj)
        transaction.on_commit(dispatch)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[_Limit]) -> None:
        super().delete_queryset(request, queryset)
        transaction.on_commit(dispatch)


def meter(
    taken: Decimal | int, of: Decimal | int, *, words: str, held: Decimal | int = 0, near: int = 100
) -> SafeString:
    """A bar of what is taken of a limit, and in a lighter colour what is only `held`, with its numbers beside it.

    Red when all is taken; amber when that and what is held come to `near` per cent.
    """
    share = 100 if not of else min(100, round(100 * taken / of))
    held_share = min(100 - share, round(100 * held / of)) if of else 0
    is_near = 100 * (taken + held) >= near * of
    full = "rota-is-failed" if taken >= of else "rota-is-partial" if is_near else "rota-is-succeeded"
    return format_html(
        '<span class="rota-meter {}" role="meter" aria-valuenow="{}" aria-valuemin="0" aria-valuemax="100"'
        ' aria-label="{}"><span style="width:{}%"></span><span class="rota-meter-held" style="width:{}%"></span></span>'
        '<span class="rota-below rota-nowrap">{}</span>',
        *(full, share + held_share, words, share, held_share, words),
    )


# --- Pools --------------------------------------------------------------------------------------


class PoolForm(ModelForm[Pool]):
    provider = forms.CharField(
        required=False,
        max_length=40,
        widget=SuggestingInput(providers),
        help_text="Every session of this provider is in it, such as <code>anthropic</code>. Rehearsals are not.",
    )

    description = forms.CharField(required=False, widget=UnfoldAdminExpandableTextareaWidget({"rows": 2}))

    class Meta:
        model = Pool
        fields = ("name", "description", "places", "provider", "model")

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # Django's own hook, that the stubs leave out
        if not self.errors and (names := too_wide_for(self.instance)):
            self.add_error("places", f"A session of {', '.join(names[:_MOST_NAMED])} takes more places than that.")


class PoolList(ChangeList):
    """The page of pools, each with the places of it that are `taken`."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        taken = Places.read(now=timezone.now(), when_full=True).taken
        for pool in self.result_list:
            pool.taken = taken[pool.pk]


@admin.register(Pool)
class PoolAdmin(LimitAdmin[Pool]):
    form = PoolForm
    list_display = ("name", "usage", "of_whom", "used", "about")
    search_fields = ("name", "description")
    ordering = ("name",)
    sortable_by = ("name",)
    warn_unsaved_form = True

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PoolList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Pool]:
        return super().get_queryset(request).annotate(schedule_count=Count("schedules"))

    def get_deleted_objects(
        self, objs: Sequence[Pool] | QuerySet[Pool], request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """Whom they held back, where Django would list rows of a table that nobody knows."""
        _, _, forbidden, kept = super().get_deleted_objects(objs, request)
        pools = list(objs)
        return [f"{pool}, the limit of {_in(pool)}" for pool in pools], {"pools": len(pools)}, forbidden, kept

    @display(description="Places")
    def usage(self, pool: Pool) -> SafeString:
        taken = int(getattr(pool, "taken", 0))
        words = f"{taken} of {pool.places} taken" if pool.places else f"shut, {taken} taken" if taken else "shut"
        return meter(taken, pool.places, words=words)

    @display(description="Every session of")
    def of_whom(self, pool: Pool) -> str:
        return pool.provider or pool.model or NOTHING

    @display(description="Schedules")
    def used(self, pool: Pool) -> int:
        return int(getattr(pool, "schedule_count", 0))

    @display(description="Description")
    def about(self, pool: Pool) -> str:
        return pool.description.partition("\n")[0] or NOTHING


def _in(pool: Pool) -> str:
    """Whose sessions are in it."""
    names = list(pool.schedules.order_by("name").values_list("name", flat=True))
    shown, more = ", ".join(names[:_MOST_NAMED]), len(names) - _MOST_NAMED
    others = f" and {counted(more, 'other')}" if more > 0 else ""
    of_schedules = f"{counted(len(names), 'schedule')}: {shown}{others}" if names else ""
    of_all = f"every session of {of}" if (of := pool.provider or pool.model) else ""
    return ", and of ".join(filter(None, (of_all, of_schedules))) or "no schedule"


# --- Budgets ------------------------------------------------------------------------------------


class BudgetList(ChangeList):
    """The page of budgets, each with its `account`."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        ledger = Places.read(now=timezone.now(), when_full=True).ledger
        accounts = {account.budget.pk: account for account in ledger.accounts()}
        for budget in self.result_list:
            budget.account = accounts.get(budget.pk)


@admin.register(Budget)
class BudgetAdmin(LimitAdmin[Budget]):
    fieldsets = (
        (
            None,
            {
                "fields": ("schedule", "repository", "period", "limit_usd"),
                "description": "Of a schedule, or of a repository. Without either, of all.",
            },
        ),
    )
    list_display = ("whose", "period", "limit", "usage", "reserved", "renewed")
    list_display_links = ("whose",)
    list_filter = ("period",)
    list_select_related = ("schedule", "repository")
    autocomplete_fields = ("schedule", "repository")
    search_fields = ("schedule__name", "repository__slug")
    ordering = ("schedule__name", "repository__slug", "period")
    sortable_by = ()
    warn_unsaved_form = True

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BudgetList

    @display(description="Of")
    def whose(self, budget: Budget) -> SafeString | str:
        of = "schedule" if budget.schedule_id else "repository"
        named = budget.schedule or budget.repository
        return format_html('{}<span class="rota-below">{}</span>', named, of) if named else "all"

    @display(description="Limit")
    def limit(self, budget: Budget) -> str:
        return f"${budget.limit_usd:,.2f}"

    @display(description="Spent")
    def usage(self, budget: Budget) -> SafeString | str:
        account = _account(budget)
        if account is None:
            return NOTHING
        words = f"{money(account.spent)} of ${budget.limit_usd:,.2f}"
        return meter(account.spent, budget.limit_usd, words=words, held=account.reserved, near=_NEARLY_SPENT)

    @display(description="Reserved")
    def reserved(self, budget: Budget) -> str:
        account = _account(budget)
        return money(account.reserved) if account and account.reserved else NOTHING

    @display(description="Begins anew")
    def renewed(self, budget: Budget) -> SafeString | str:
        account = _account(budget)
        return instant(account.ends_at, timezone.now()) if account else NOTHING


def _account(budget: Budget) -> Account | None:
    account: Account | None = getattr(budget, "account", None)
    return account


class SumFilter(admin.SimpleListFilter):
    """Which of the sums: without a choice, those of the days."""

    title = "sums"
    parameter_name = "of"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        return (("schedules", "of schedules"), ("repositories", "of repositories"))

    def choices(self, changelist: Any) -> Any:
        first, *others = super().choices(changelist)
        yield {**first, "display": "of all"}
        yield from others

    def queryset(self, request: HttpRequest, queryset: QuerySet[Spending]) -> QuerySet[Spending]:
        if self.value() == "schedules":
            return queryset.filter(schedule__isnull=False)
        return queryset.filter(schedule=None, repository__isnull=self.value() != "repositories")


@admin.register(Spending)
class SpendingAdmin(ReadOnlyAdmin[Spending]):
    """Written by Rota, read by people."""

    list_display = ("on", "of_schedule", "of_repository", "cost", "sessions")
    list_display_links = None
    list_filter = (SumFilter,)
    list_select_related = ("schedule", "repository")
    list_per_page = 50
    ordering = ("-day", "-cost_usd", "pk")
    show_full_result_count = False

    @display(description="Day")
    def on(self, row: Spending) -> str:
        return row.day.isoformat()

    @display(description="Schedule")
    def of_schedule(self, row: Spending) -> str:
        return row.schedule.name if row.schedule else "all"

    @display(description="Repository")
    def of_repository(self, row: Spending) -> str:
        if row.repository:
            return row.repository.slug
        return NOTHING if row.schedule else "all"

    @display(description="Cost")
    def cost(self, row: Spending) -> str:
        return money(row.cost_usd)


# --- Holds --------------------------------------------------------------------------------------


class HoldList(ChangeList):
    """The page of holds, each with whether who looks `may_lift` it."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        may_lift = request.user.has_perm(LIFT)
        for hold in self.result_list:
            hold.may_lift = may_lift


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin[Hold]):
    """Written by Rota; a person may lift one."""

    list_display = ("credential", "state", "reason", "ends", "since_when", "lifting")
    list_display_links = None
    ordering = ("-until", "credential")

    def get_urls(self) -> list[URLPattern]:
        lifting = path("<int:pk>/lift/", self.admin_site.admin_view(self.lift), name="schedules_hold_lift")
        return [lifting, *super().get_urls()]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return HoldList

    def lift(self, request: HttpRequest, pk: int) -> HttpResponse:
        if not request.user.has_perm(LIFT):
            raise PermissionDenied
        hold = get_object_or_404(Hold, pk=pk)
        here = reverse("admin:schedules_hold_changelist")
        form = ConfirmForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            lifted = quota.lift(hold.credential, by=request.user.get_username(), now=timezone.now())
            transaction.on_commit(dispatch)
            told = f"{hold.credential} lets sessions in." if lifted else "Nothing held it any more."
            self.message_user(request, told)
            return redirect(here)
        return ask(
            request,
            self,
            form=form,
            title=f"Let sessions of {hold.credential} start?",
            text=f"{hold.reason} If that is still so, they fail, and it is held again.",
            submit="Lift the hold",
            back=here,
        )

    @display(description="Status")
    def state(self, hold: Hold) -> SafeString:
        if hold.until is None:
            return pill("active", label="lets in", title=f"{hold.failures} failures in a row" if hold.failures else "")
        if hold.until > timezone.now():
            return pill("failed", label="held")
        return pill("partial", label="one tries") if hold.failures else pill("active", label="lets in")

    @display(description="Until")
    def ends(self, hold: Hold) -> SafeString | str:
        return instant(hold.until, timezone.now())

    @display(description="Since")
    def since_when(self, hold: Hold) -> SafeString | str:
        return instant(hold.since, timezone.now())

    @display(description="")
    def lifting(self, hold: Hold) -> SafeString | str:
        if hold.until is None or not getattr(hold, "may_lift", False):
            return ""
        url = reverse("admin:schedules_hold_lift", args=(hold.pk,))
        return format_html('<a class="rota-link" href="{}" data-rota-ask>Lift</a>', url)
