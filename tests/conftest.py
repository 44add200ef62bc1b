"""One thread of torch and numpy in every test process, as pytest-xdist runs one process per core.

Not a fixture: the libraries read it when they are loaded. With two threads each, two processes took five
times as long as with one on the many small tensors of these tests.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
