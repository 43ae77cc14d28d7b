"""
Datasette with this plugin, and without those that the environment has for a test of its own: of pages,
those would test datasette-cluster-map, which is not happy with a table without places.

As a script, the command `datasette`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.metadata import Distribution
from typing import Any

from datasette import app, hookimpl
from datasette.app import Datasette, DatasetteClient
from datasette.plugins import pm
from jinja2 import Environment, FileSystemBytecodeCache

from datasette_image_search.decoding import decoding_process
from datasette_image_search.web.pages import image_page, search_page
from datasette_image_search.web.server import starting

OURS = "datasette-image-search"


class CompiledTemplates:
    """Keeps them for all Datasettes of the tests: to compile its own takes one more time than its answers."""

    __name__ = "compiled_templates"

    @hookimpl
    def prepare_jinja2_environment(self, env: Environment) -> None:
        env.bytecode_cache = FileSystemBytecodeCache()


def forget_other_plugins() -> None:
    """Until this process ends."""
    for plugin, distribution in pm.list_plugin_distinfo():
        if distribution.project_name != OURS:
            pm.unregister(plugin)
    pm.register(CompiledTemplates())
    # With it Datasette prints a traceback with all variables for whatever it answers with an error,
    # which takes it seconds each time. Imported by its name, before the plugins are, that module would
    # register itself half made, and every error would be a 500.
    pm.get_plugin("datasette.handle_exception").rich = None


def keep_metadata() -> None:
    """Of the plugins: each Datasette asks for their names several times, and each time they are parsed anew."""
    if isinstance(Distribution.metadata, property):
        Distribution.metadata = property(cache(Distribution.metadata.fget))


def keep_plugins() -> None:
    """What each Datasette lists twice as it is made, which takes a tenth of a test that asks for a page."""
    listed = app.get_plugins
    of_those = cache(lambda plugins: listed())
    app.get_plugins = lambda: list(of_those(frozenset(pm.get_plugins())))


def keep_apps() -> None:
    """As a server does, and the client of 0.65; that of 1.0 makes all routes anew for each request."""
    app = vars(DatasetteClient).get("app")
    if isinstance(app, property) and app.fget is not None:
        DatasetteClient.app = cached_property(app.fget)
        DatasetteClient.app.__set_name__(DatasetteClient, "app")


def wait_for_models() -> None:
    """
    On a busy machine the smallest model may take longer to load than a person waits for a page, which then says so and loads
    itself anew.
    """
    search_page.PATIENCE = image_page.PATIENCE = 60


START_WARM_UP = starting._start_warm_up


def leave_cold() -> None:
    """
    Most Datasettes of the tests are asked once or twice, and to read all for the searches to come takes a tenth of that. Those of
    tests with the fixture `warming_up` do so, and so does a server that is a process of its own.
    """
    starting._start_warm_up = lambda datasette: None


def wait_for_decoders() -> None:
    """A process that decodes starts and ends in a second, unless a dozen others want the processor."""
    decoding_process.PATIENCE = 60


@contextmanager
def closed_in_the_end() -> Iterator[None]:
    """
    All Datasettes that are made in the context: their threads and connections would stay until the process ends. Those of one
    that asks something still are left to it.
    """
    made: list[Datasette] = []
    make = Datasette.__init__

    def noted(self: Datasette, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        made.append(self)

    Datasette.__init__ = noted
    try:
        yield
    finally:
        Datasette.__init__ = make
        for datasette in made:
            close(datasette)


def close(datasette: Datasette) -> None:
    """Its threads and connections, unless it asks something still."""
    if _is_idle(datasette):
        for database in datasette.databases.values():
            database.close()


def _is_idle(datasette: Datasette) -> bool:
    """Whether its threads have ended, which takes them no time if they have nothing to do."""
    if datasette.executor is None:
        return True
    datasette.executor.shutdown(wait=False)
    threads = list(datasette.executor._threads)
    for thread in threads:
        thread.join(0.1)
    return not any(thread.is_alive() for thread in threads)


if __name__ == "__main__":
    from datasette.cli import cli

    forget_other_plugins()
    wait_for_models()
    wait_for_decoders()
    cli()
