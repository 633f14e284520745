# SPDX-License-Identifier: GPL-3.0-or-later

check_PROGRAMS += t/unit/workers/envelope_test
UNIT_TESTS += t/unit/workers/envelope_test
t_unit_workers_envelope_test_SOURCES = t/unit/workers/envelope_test.c
t_unit_workers_envelope_test_LDADD = libph_mail.a $(LIB_LIBS)
check_PROGRAMS += t/unit/workers/address_test
UNIT_TESTS += t/unit/workers/address_test
t_unit_workers_address_test_SOURCES = t/unit/workers/address_test.c
t_unit_workers_address_test_LDADD = libph_mail.a $(LIB_LIBS)
check_PROGRAMS += t/unit/workers/smtpline_test
UNIT_TESTS += t/unit/workers/smtpline_test
t_unit_workers_smtpline_test_SOURCES = t/unit/workers/smtpline_test.c
t_unit_workers_smtpline_test_LDADD = libph_smtp.a $(LIB_LIBS)
check_PROGRAMS += t/unit/workers/smtpreply_test
UNIT_TESTS += t/unit/workers/smtpreply_test
t_unit_workers_smtpreply_test_SOURCES = t/unit/workers/smtpreply_test.c
t_unit_workers_smtpreply_test_LDADD = libph_smtp.a $(LIB_LIBS)
include t/unit/workers/spool/local.mk
check_PROGRAMS += t/unit/workers/mailtext_test
UNIT_TESTS += t/unit/workers/mailtext_test
t_unit_workers_mailtext_test_SOURCES = t/unit/workers/mailtext_test.c
t_unit_workers_mailtext_test_LDADD = libph_mail.a $(LIB_LIBS)
check_PROGRAMS += t/unit/workers/outbox_test
UNIT_TESTS += t/unit/workers/outbox_test
t_unit_workers_outbox_test_SOURCES = t/unit/workers/outbox_test.c
t_unit_workers_outbox_test_LDADD = libph_worker.a libph_shm.a $(LIB_LIBS)
check_PROGRAMS += t/unit/workers/sandbox_test
UNIT_TESTS += t/unit/workers/sandbox_test
t_unit_workers_sandbox_test_SOURCES = t/unit/workers/sandbox_test.c
t_unit_workers_sandbox_test_LDADD = libph_worker.a $(SHM_LIBS) $(SECCOMP_LIBS)
check_PROGRAMS += t/unit/workers/logtags_test
UNIT_TESTS += t/unit/workers/logtags_test
t_unit_workers_logtags_test_SOURCES = t/unit/workers/logtags_test.c workers/log/tags.c
t_unit_workers_logtags_test_LDADD = $(LIB_LIBS)
