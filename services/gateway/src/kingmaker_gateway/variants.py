"""One variant as it is served from here: its connections, its health, and what is known of its inputs.

All of it lasts as long as the variant's identity, so a record that only moves weights costs nobody a connection, and a
breaker that is open stays open. A shadow's copies go over connections of their own, where they are in nobody's way.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from kingmaker_contracts.profile import Profile
from kingmaker_contracts.routing import RoutedVariant
from kingmaker_gateway import signature
from kingmaker_gateway.breaker import Breaker
from kingmaker_gateway.coalescer import Deliver, hand_out
from kingmaker_gateway.errors import UpstreamError
from kingmaker_gateway.metrics import Metrics, VariantMetrics
from kingmaker_gateway.runs import Run
from kingmaker_gateway.settings import Settings
from kingmaker_gateway.shadow import Shadow
from kingmaker_gateway.signature import Signature
from kingmaker_gateway.upstream import Upstream

logger = logging.getLogger(__name__)

_DISCOVERY_S = (0.1, 2.0)

Identity = tuple[str, ...]


def identity_of(routed: RoutedVariant) -> Identity:
    """What makes a variant another one, with connections of its own."""
    return routed.name, routed.version, routed.model_name, routed.profile or ""


class LiveVariant:
    """One variant's connections and health, for as long as its identity (name, version, package) stays."""

    def __init__(self, routed: RoutedVariant, upstream: Upstream, breaker: Breaker, counts: VariantMetrics) -> None:
        self.routed = routed
        self.upstream = upstream
        self.breaker = breaker
        self.counts = counts
        self.profile: Profile | None = None
        self.signature: Signature | None = None
        self.shadow: Shadow | None = None
        self.discovery: asyncio.Task[None] | None = None

    def learn(self, profile: Profile) -> None:
        """A profile's word counts more than the model server's."""
        if profile is not self.profile:
            self.profile = profile
            self.signature = signature.from_profile(profile)

    async def discover(self) -> None:
        """Ask the model server what it takes until it says so, or until a profile does."""
        loop = asyncio.get_running_loop()
        pause, longest = _DISCOVERY_S
        while self.profile is None:
            try:
                found = signature.from_metadata(await self.upstream.metadata(loop.time() + 1.0))
                self.signature = self.signature or found  # a profile may have come meanwhile
                break
            except (UpstreamError, ValueError) as error:
                if pause < longest:
                    logger.info("no signature yet", extra={"variant": self.routed.name, "reason": str(error)})
                await asyncio.sleep(pause)
                pause = min(longest, pause * 2)


class Wires:
    """Opens what variants need, and closes it. deliver: what to do with the answers of a variant; record: told of what
    shadows answered."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        dice: random.Random,
        *,
        deliver: Deliver,
        record: Callable[[Run], None],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._dice = dice
        self._deliver = deliver
        self._record = record
        self._closing: set[asyncio.Task[None]] = set()

    def connect(self, model: str, routed: RoutedVariant) -> LiveVariant:
        counts = self._metrics.variant(model, routed.name)
        breaker = Breaker(self._settings.breaker)
        upstream = Upstream(routed.model_name, routed.endpoints, self._settings.upstream, self._dice, self._deliver)
        return LiveVariant(routed, upstream, breaker, counts)

    def follow(self, live: LiveVariant, routed: RoutedVariant) -> None:
        """Serve a variant as a record has it now."""
        live.routed = routed
        live.counts.breaker_state.set_function(lambda: live.breaker.state)  # of several with one name, who is served
        if routed.role == "champion":
            live.breaker.close()  # nobody asks a champion's, so that nothing else would
        live.upstream.use(routed.endpoints)
        wanted = routed.role == "challenger" and routed.mirror > 0
        if wanted and live.shadow is None:
            live.shadow = self._shadow(live)
        elif wanted and live.shadow is not None:
            live.shadow.upstream.use(routed.endpoints)
        elif live.shadow is not None:
            self._close_later(live.shadow)
            live.shadow = None

    def retire(self, live: LiveVariant) -> None:
        """No longer routed to; requests on their way still get their answers."""
        live.upstream.retire()
        if live.discovery is not None:
            live.discovery.cancel()
        if live.shadow is not None:
            self._close_later(live.shadow)

    async def close(self, variants: Sequence[LiveVariant]) -> None:
        """Stop copies and connections of these now, and wait for those that are on their way out."""
        tasks = [live.discovery for live in variants if live.discovery]
        for task in tasks:
            task.cancel()
        shadows = [live.shadow.close() for live in variants if live.shadow]
        await asyncio.gather(*tasks, *self._closing, *shadows, return_exceptions=True)
        await asyncio.gather(*(live.upstream.close() for live in variants))

    def _shadow(self, live: LiveVariant) -> Shadow:
        settings, routed = self._settings, live.routed
        own = settings.upstream.model_copy(update={"connections": settings.shadow.connections})
        upstream = Upstream(routed.model_name, routed.endpoints, own, self._dice, hand_out)
        return Shadow(upstream, settings.shadow, live.counts, self._record)

    def _close_later(self, shadow: Shadow) -> None:
        task = asyncio.create_task(shadow.close(), name="close shadow")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
