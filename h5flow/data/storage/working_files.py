"""Names of files that are at work, and systems that can't lock them."""

from __future__ import annotations

import errno

#: How the names of files end that are at work: nobody else has any business with them.
WORKING = ".partial"

#: How the names of temporary files begin.
TEMPORARY = "tmp-h5flow-"

#: What a file system says that has no locks, or whose lock service is down: NFS, Lustre, DVS. (524 is ENOTSUPP, which
#: has no name outside the kernel.)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, 524)
