/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Worker classes: numbers shared by the supervisor, the workers and the statistics. */
#ifndef PH_WORKERS_COMMON_CLASSES_H
#define PH_WORKERS_COMMON_CLASSES_H

enum worker_class {
	CLASS_SUPERVISOR,
	CLASS_LOG,
	CLASS_RESOLVER,
	CLASS_REWRITE,
	CLASS_SMTP_IN,
	CLASS_DELIVER,
	CLASS_LOCAL,
	CLASS_STATS,
	CLASS_PICKUP,
	CLASS_LOOKUP,
	CLASS_SHOWQ,
	CLASS_SPAWN,
	CLASS_AUTH,
	CLASS_VERIFY,
	CLASS_SASL_CLIENT,
	CLASS_COUNT
};

#endif
