"""The control plane run alone, for servers on other machines that send it their statistics."""

import logging

from fastserve.app.child import STOP, take_stop_signals
from fastserve.app.limits import raise_descriptor_limit
from fastserve.app.listening import bind, origin
from fastserve.config import Config
from fastserve.errors import ConfigError
from fastserve.log import configure_logging

log = logging.getLogger("fastserve.app")


def control(config: Config) -> int:
    """Gather until SIGTERM or SIGINT; the process's exit code.

    Raises
    ------
    ConfigError
        The address or the database cannot be had, or no token is set that servers could show.
    """
    configure_logging(config.log)
    raise_descriptor_limit()
    take_stop_signals()
    registry, options, port = config.registry_dir(), config.control, config.server.control_port
    if not port:
        raise ConfigError(
            "--control-port 0 is no port to listen on: servers need one to send to, such as 8002"
        )
    if options.token is None:
        raise ConfigError(
            "servers on other machines send their statistics with a token: set FASTSERVE_CONTROL__TOKEN here "
            "and FASTSERVE_MONITORING__CONTROL_TOKEN there"
        )
    listener = bind(options.host, port, config.server.backlog, 1, "--control-port")[0]
    from fastserve.controlplane.process import run

    log.info("the control plane listens on %s", origin(listener))
    run(options, registry, listener, None, None, STOP)
    return 0
