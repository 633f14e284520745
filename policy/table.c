/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The restrictions: one row each. To add one, write its function (policy/check_*.c) and its row.
 * Rows without a function are names that Postfix knows and this version does not act on; a list
 * that decides about relaying refuses them (policy/compile.c).
 */
#include "policy/policy_int.h"

const struct restriction restriction_table[] = {
	/* anywhere */
	{ .name = "permit", .fn = rs_permit, .lists = IN_ANY, .ends_list = true,
	  .text = "permit the request" },
	{ .name = "reject", .fn = rs_reject, .lists = IN_ANY, .ends_list = true,
	  .guards_relay = true, .text = "refuse the request (reject_code)" },
	{ .name = "defer", .fn = rs_defer, .lists = IN_ANY, .ends_list = true,
	  .guards_relay = true, .text = "tell the client to come back (defer_code)" },
	{ .name = "defer_if_permit", .fn = rs_defer_if_permit, .lists = IN_ANY,
	  .guards_relay = true, .text = "defer what would be permitted in the end" },
	{ .name = "defer_if_reject", .fn = rs_defer_if_reject, .lists = IN_ANY,
	  .text = "defer what would be refused in the end" },
	{ .name = "warn_if_reject", .lists = IN_ANY, .warn_next = true,
	  .text = "log instead of refusing, for the restriction that follows" },
	{ .name = "sleep", .fn = rs_sleep, .arg = ARG_NUMBER, .lists = IN_ANY,
	  .text = "wait that many seconds" },
	{ .name = "reject_unauth_pipelining", .fn = rs_unauth_pipelining, .lists = IN_ANY,
	  .text = "refuse clients that sent commands ahead of time" },
	{ .name = "reject_plaintext_session", .fn = rs_plaintext_session, .lists = IN_ANY,
	  .text = "refuse sessions that are not encrypted" },
	{ .name = "check_policy_service", .arg = ARG_TEXT, .lists = IN_ANY,
	  .text = "ask a policy server" },

	/* client */
	{ .name = "permit_mynetworks", .fn = rs_mynetworks, .lists = IN_ANY,
	  .text = "permit clients in mynetworks" },
	{ .name = "permit_inet_interfaces", .fn = rs_inet_interfaces, .lists = IN_ANY,
	  .text = "permit clients with an address of ours" },
	{ .name = "permit_sasl_authenticated", .fn = rs_sasl_authenticated, .lists = IN_ANY,
	  .text = "permit clients that logged in" },
	{ .name = "permit_tls_clientcerts", .fn = rs_never, .lists = IN_ANY,
	  .text = "permit clients with a listed certificate; without TLS there is none" },
	{ .name = "permit_tls_all_clientcerts", .fn = rs_never, .lists = IN_ANY,
	  .text = "permit clients with a valid certificate; without TLS there is none" },
	{ .name = "check_client_access", .fn = rs_client_access, .arg = ARG_MAP, .lists = IN_ANY,
	  .text = "look the client's name and address up" },
	{ .name = "check_reverse_client_hostname_access", .fn = rs_reverse_access,
	  .arg = ARG_MAP, .lists = IN_ANY,
	  .text = "look the client's unverified name and address up" },
	{ .name = "reject_unknown_client_hostname", .alias = "reject_unknown_client",
	  .fn = rs_unknown_client, .lists = IN_ANY,
	  .text = "refuse clients whose address and name do not agree" },
	{ .name = "reject_unknown_reverse_client_hostname", .fn = rs_unknown_reverse,
	  .lists = IN_ANY, .text = "refuse clients whose address has no name" },
	{ .name = "reject_rbl_client", .alias = "reject_rbl", .fn = rs_rbl_client,
	  .arg = ARG_TEXT, .lists = IN_ANY, .text = "refuse clients that a DNS list names" },
	{ .name = "check_client_a_access", .arg = ARG_MAP, .lists = IN_ANY },
	{ .name = "check_client_mx_access", .arg = ARG_MAP, .lists = IN_ANY },
	{ .name = "check_client_ns_access", .arg = ARG_MAP, .lists = IN_ANY },
	{ .name = "check_reverse_client_hostname_a_access", .arg = ARG_MAP, .lists = IN_ANY },
	{ .name = "check_reverse_client_hostname_mx_access", .arg = ARG_MAP, .lists = IN_ANY },
	{ .name = "check_reverse_client_hostname_ns_access", .arg = ARG_MAP, .lists = IN_ANY },
	{ .name = "check_ccert_access", .arg = ARG_MAP, .lists = IN_ANY },
	{ .name = "check_sasl_access", .arg = ARG_MAP, .lists = IN_ANY },
	{ .name = "reject_rhsbl_client", .arg = ARG_TEXT, .lists = IN_ANY },
	{ .name = "reject_rhsbl_reverse_client", .arg = ARG_TEXT, .lists = IN_ANY },
	{ .name = "permit_dnswl_client", .arg = ARG_TEXT, .lists = IN_ANY, .grants_only = true },
	{ .name = "permit_rhswl_client", .arg = ARG_TEXT, .lists = IN_ANY, .grants_only = true },
	{ .name = "permit_naked_ip_address", .lists = IN_ANY, .removed = true },
	{ .name = "reject_maps_rbl", .lists = IN_ANY, .removed = true },

	/* HELO */
	{ .name = "check_helo_access", .fn = rs_helo_access, .arg = ARG_MAP, .lists = FROM_HELO,
	  .text = "look the HELO name up" },
	{ .name = "reject_invalid_helo_hostname", .alias = "reject_invalid_hostname",
	  .fn = rs_invalid_helo, .lists = FROM_HELO, .text = "refuse malformed HELO names" },
	{ .name = "reject_non_fqdn_helo_hostname", .alias = "reject_non_fqdn_hostname",
	  .fn = rs_non_fqdn_helo, .lists = FROM_HELO,
	  .text = "refuse HELO names that are not fully qualified" },
	{ .name = "reject_unknown_helo_hostname", .alias = "reject_unknown_hostname",
	  .fn = rs_unknown_helo, .lists = FROM_HELO,
	  .text = "refuse HELO names without A, AAAA or MX record" },
	{ .name = "check_helo_a_access", .arg = ARG_MAP, .lists = FROM_HELO },
	{ .name = "check_helo_mx_access", .arg = ARG_MAP, .lists = FROM_HELO },
	{ .name = "check_helo_ns_access", .arg = ARG_MAP, .lists = FROM_HELO },
	{ .name = "reject_rhsbl_helo", .arg = ARG_TEXT, .lists = FROM_HELO },

	/* sender */
	{ .name = "check_sender_access", .fn = rs_sender_access, .arg = ARG_MAP,
	  .lists = FROM_SENDER, .text = "look the sender up" },
	{ .name = "reject_non_fqdn_sender", .fn = rs_non_fqdn_sender, .lists = FROM_SENDER,
	  .text = "refuse senders whose domain is not fully qualified" },
	{ .name = "reject_unknown_sender_domain", .alias = "reject_unknown_address",
	  .fn = rs_unknown_sender, .lists = FROM_SENDER,
	  .text = "refuse senders whose domain has no MX, A or AAAA record" },
	{ .name = "reject_unlisted_sender", .fn = rs_unlisted_sender, .lists = FROM_SENDER,
	  .text = "refuse senders in our domains that do not exist" },
	{ .name = "check_sender_a_access", .arg = ARG_MAP, .lists = FROM_SENDER },
	{ .name = "check_sender_mx_access", .arg = ARG_MAP, .lists = FROM_SENDER },
	{ .name = "check_sender_ns_access", .arg = ARG_MAP, .lists = FROM_SENDER },
	{ .name = "reject_unverified_sender", .lists = FROM_SENDER },
	{ .name = "reject_rhsbl_sender", .arg = ARG_TEXT, .lists = FROM_SENDER },
	{ .name = "reject_sender_login_mismatch", .lists = FROM_SENDER },
	{ .name = "reject_authenticated_sender_login_mismatch", .lists = FROM_SENDER },
	{ .name = "reject_known_sender_login_mismatch", .lists = FROM_SENDER },
	{ .name = "reject_unauthenticated_sender_login_mismatch", .lists = FROM_SENDER },

	/* recipient */
	{ .name = "check_recipient_access", .fn = rs_recipient_access, .arg = ARG_MAP,
	  .lists = FROM_RCPT, .text = "look the recipient up" },
	{ .name = "permit_auth_destination", .fn = rs_permit_auth_dest, .lists = FROM_RCPT,
	  .text = "permit recipients in domains of ours" },
	{ .name = "reject_unauth_destination", .fn = rs_reject_unauth_dest, .lists = FROM_RCPT,
	  .guards_relay = true, .text = "refuse recipients in domains that are not ours" },
	{ .name = "defer_unauth_destination", .fn = rs_defer_unauth_dest, .lists = FROM_RCPT,
	  .guards_relay = true, .text = "defer recipients in domains that are not ours" },
	{ .name = "reject_non_fqdn_recipient", .fn = rs_non_fqdn_recipient, .lists = FROM_RCPT,
	  .text = "refuse recipients whose domain is not fully qualified" },
	{ .name = "reject_unknown_recipient_domain", .fn = rs_unknown_recipient,
	  .lists = FROM_RCPT,
	  .text = "refuse recipients whose domain has no MX, A or AAAA record" },
	{ .name = "reject_unlisted_recipient", .alias = "check_recipient_maps",
	  .fn = rs_unlisted_recipient, .lists = FROM_RCPT,
	  .text = "refuse recipients in our domains that do not exist" },
	{ .name = "reject_multi_recipient_bounce", .fn = rs_multi_bounce, .lists = FROM_RCPT,
	  .text = "refuse bounces with several recipients" },
	{ .name = "check_recipient_a_access", .arg = ARG_MAP, .lists = FROM_RCPT },
	{ .name = "check_recipient_mx_access", .arg = ARG_MAP, .lists = FROM_RCPT },
	{ .name = "check_recipient_ns_access", .arg = ARG_MAP, .lists = FROM_RCPT },
	{ .name = "permit_mx_backup", .lists = FROM_RCPT, .grants_only = true },
	{ .name = "reject_unverified_recipient", .lists = FROM_RCPT },
	{ .name = "reject_rhsbl_recipient", .arg = ARG_TEXT, .lists = FROM_RCPT },
	{ .name = "check_relay_domains", .lists = FROM_RCPT, .removed = true },

	/* ETRN */
	{ .name = "check_etrn_access", .fn = rs_etrn_access, .arg = ARG_MAP, .lists = IN_ETRN,
	  .text = "look the ETRN domain up" },
};

const unsigned restriction_count = ARRAY_LEN(restriction_table);

const struct restriction *restriction_find(struct sv name)
{
	for (unsigned i = 0; i < restriction_count; i++) {
		const struct restriction *row = &restriction_table[i];

		if (sv_eq_nocase(name, sv_from(row->name)) ||
		    (row->alias != NULL && sv_eq_nocase(name, sv_from(row->alias))))
			return row;
	}
	return NULL;
}
