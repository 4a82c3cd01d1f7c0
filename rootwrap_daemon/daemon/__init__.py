"""Start the daemon and serve requests: code that only the privileged process runs."""

import resource
import sys

# Whoever starts the daemon by sudo may have set it: a .pyc written now, of the very next module, could be
# cut, and break every later start.
if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
    sys.dont_write_bytecode = True
