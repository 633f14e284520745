/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Certificates of a test authority, valid from 2000 to 2099, and two ends that are joined. */
#ifndef PH_T_UNIT_WORKERS_TLS_RIG_H
#define PH_T_UNIT_WORKERS_TLS_RIG_H

#include <string.h>

#include "lib/err.h"
#include "workers/tls/tls.h"

__attribute__((unused)) static const char tls_rig_ca_crt[] =
	"-----BEGIN CERTIFICATE-----\n"
	"MIIBizCCATKgAwIBAgIUcKCH9K+jpooSv/T510uRGoDBd1AwCgYIKoZIzj0EAwIw\n"
	"IzENMAsGA1UECgwEVGVzdDESMBAGA1UEAwwJVGVzdCBSb290MCAXDTAwMDEwMTAw\n"
	"MDAwMFoYDzIwOTkxMjMxMjM1OTU5WjAjMQ0wCwYDVQQKDARUZXN0MRIwEAYDVQQD\n"
	"DAlUZXN0IFJvb3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASiM7QCvIFfc++Y\n"
	"93M22ovl/4bivA4F8DDp5La+/SbIpUu7cWNsrioT6YHheirUoH341ZG+roG8JOhD\n"
	"dCuTHZfEo0IwQDAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB/wQEAwIBBjAdBgNV\n"
	"HQ4EFgQUXkpmEnvBEQ8I2GNEpt3qnLOfMhkwCgYIKoZIzj0EAwIDRwAwRAIgOg31\n"
	"VcbNh00ugsHtygZ8EHpEWTLXCNV1K91nXy1BRsECIDNgDyIAgHxqryqNbUox9N02\n"
	"a3FLYV2FnOede3wB5KkI\n"
	"-----END CERTIFICATE-----\n";

__attribute__((unused)) static const char tls_rig_inter_crt[] =
	"-----BEGIN CERTIFICATE-----\n"
	"MIIBtDCCAVugAwIBAgIUYRpQLobNgrLpDJTEe1KrAxLAZ8UwCgYIKoZIzj0EAwIw\n"
	"IzENMAsGA1UECgwEVGVzdDESMBAGA1UEAwwJVGVzdCBSb290MCAXDTAwMDEwMTAw\n"
	"MDAwMFoYDzIwOTkxMjMxMjM1OTU5WjArMQ0wCwYDVQQKDARUZXN0MRowGAYDVQQD\n"
	"DBFUZXN0IEludGVybWVkaWF0ZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABI0/\n"
	"VaNDKCUrYaJ4SH9XymNwdVOCtxvv3HgoLuNEPl3Mm7emgzb6f/6Tr3YxFx8wAerR\n"
	"YT9rt6DIc4juvr/fIGCjYzBhMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQD\n"
	"AgEGMB0GA1UdDgQWBBREM6kGMiIhA55d2UpRhC6h5Mw6XDAfBgNVHSMEGDAWgBRe\n"
	"SmYSe8ERDwjYY0Sm3eqcs58yGTAKBggqhkjOPQQDAgNHADBEAiBEG8RSlH60EMWk\n"
	"28312v3TLiFEPOxiXScBmVxeQsZdKAIgaZ0xjwtFlHVPT5sVjgW1iXUeF4yABSJx\n"
	"sOYwubRSpo8=\n"
	"-----END CERTIFICATE-----\n";

__attribute__((unused)) static const char tls_rig_leaf_crt[] =
	"-----BEGIN CERTIFICATE-----\n"
	"MIIB1TCCAXygAwIBAgIUTu1sNH+jrrU8hCFxaUGamRqpd0YwCgYIKoZIzj0EAwIw\n"
	"KzENMAsGA1UECgwEVGVzdDEaMBgGA1UEAwwRVGVzdCBJbnRlcm1lZGlhdGUwIBcN\n"
	"MDAwMTAxMDAwMDAwWhgPMjA5OTEyMzEyMzU5NTlaMCkxDTALBgNVBAoMBFRlc3Qx\n"
	"GDAWBgNVBAMMD214LmV4YW1wbGUudGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEH\n"
	"A0IABIdhzN9utZ6oFPgDpb+H2RHUcHVEtm+q9aB+d6BGRMoICz36WhPX2H0jWh6i\n"
	"wmIHvdF3YBSDEUvysKaKrGaTq6CjfjB8MAkGA1UdEwQCMAAwLwYDVR0RBCgwJoIP\n"
	"bXguZXhhbXBsZS50ZXN0ghMqLndpbGQuZXhhbXBsZS50ZXN0MB0GA1UdDgQWBBT7\n"
	"z35rOoNXaQ9aYuYNZQvnoBXHfDAfBgNVHSMEGDAWgBREM6kGMiIhA55d2UpRhC6h\n"
	"5Mw6XDAKBggqhkjOPQQDAgNHADBEAiBUt/qvCk7iVjfi+HygWCSjk0cOxpeOShMQ\n"
	"1JHno0cSDwIgZTIGYsbdBu/PSgdbXqQGLwfmD1SxQKx+WKUSUOE8d7M=\n"
	"-----END CERTIFICATE-----\n";

__attribute__((unused)) static const char tls_rig_leaf_key[] =
	"-----BEGIN PRIVATE KEY-----\n"
	"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbSX1qOkH0TypwET/\n"
	"pEsQYFw+BtVKDsCpuEMmweg1q9+hRANCAASHYczfbrWeqBT4A6W/h9kR1HB1RLZv\n"
	"qvWgfnegRkTKCAs9+loT19h9I1oeosJiB73Rd2AUgxFL8rCmiqxmk6ug\n"
	"-----END PRIVATE KEY-----\n";

__attribute__((unused)) static const char tls_rig_rsa_crt[] =
	"-----BEGIN CERTIFICATE-----\n"
	"MIICoDCCAkegAwIBAgIUWqjL/2cCg71sNLurgf5h1If1eFcwCgYIKoZIzj0EAwIw\n"
	"KzENMAsGA1UECgwEVGVzdDEaMBgGA1UEAwwRVGVzdCBJbnRlcm1lZGlhdGUwIBcN\n"
	"MDAwMTAxMDAwMDAwWhgPMjA5OTEyMzEyMzU5NTlaMCkxDTALBgNVBAoMBFRlc3Qx\n"
	"GDAWBgNVBAMMD214LmV4YW1wbGUudGVzdDCCASIwDQYJKoZIhvcNAQEBBQADggEP\n"
	"ADCCAQoCggEBAJt7mxdLII6u3OFWDEogdhaIncu3DwTnOwzQvcpRhHu5i0sxNMy9\n"
	"1iCTF85f59InDe08hEdA/0GENh1AaKJsBA6rCsR5fQ8ZbtOlR5gkNia9qbqzpQkQ\n"
	"ajI4gGQXRlQaOhH/0juTj8vP9Yt6Q9X4x3k+jKrh8ZWOTK6R9Y/sRnLM4Gg/T7ch\n"
	"UEwm9E6xowAUncCzk7R+VHsetQ31CsMHWZHn0rzEbd78ASUklZC9as7lGKblPVdq\n"
	"gx3FqijUB9Fa/JoZQOi+OqzECHfyh8XKt+1KNwGvnn1XIv610v5kU4Qhjz/NML/b\n"
	"TQz/DtGoLVQDoUkUUc1RQ2RY80zx2PkzaYsCAwEAAaN+MHwwCQYDVR0TBAIwADAv\n"
	"BgNVHREEKDAmgg9teC5leGFtcGxlLnRlc3SCEyoud2lsZC5leGFtcGxlLnRlc3Qw\n"
	"HQYDVR0OBBYEFGO5gBB4P7P+0MazhanK7YkUqRdsMB8GA1UdIwQYMBaAFEQzqQYy\n"
	"IiEDnl3ZSlGELqHkzDpcMAoGCCqGSM49BAMCA0cAMEQCIHbr9K1zo5W1bg7eDa0s\n"
	"3nOqbddU7B4t34io57HWOF9DAiAj8CENb9UTScEKXuF9I59E03lzotbqvowLCZa0\n"
	"wX3vQA==\n"
	"-----END CERTIFICATE-----\n";

__attribute__((unused)) static const char tls_rig_rsa_key[] =
	"-----BEGIN PRIVATE KEY-----\n"
	"MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQCbe5sXSyCOrtzh\n"
	"VgxKIHYWiJ3Ltw8E5zsM0L3KUYR7uYtLMTTMvdYgkxfOX+fSJw3tPIRHQP9BhDYd\n"
	"QGiibAQOqwrEeX0PGW7TpUeYJDYmvam6s6UJEGoyOIBkF0ZUGjoR/9I7k4/Lz/WL\n"
	"ekPV+Md5Poyq4fGVjkyukfWP7EZyzOBoP0+3IVBMJvROsaMAFJ3As5O0flR7HrUN\n"
	"9QrDB1mR59K8xG3e/AElJJWQvWrO5Rim5T1XaoMdxaoo1AfRWvyaGUDovjqsxAh3\n"
	"8ofFyrftSjcBr559VyL+tdL+ZFOEIY8/zTC/200M/w7RqC1UA6FJFFHNUUNkWPNM\n"
	"8dj5M2mLAgMBAAECggEABoWl7UWq8iK67NvJXIzXT/2Tz3q4gL8PclRa541bG4QS\n"
	"ywYfkN/Ob/3qIbskKe9/Rg6A5rZzRHftHqRGeYm3Idq/RIRrYFyWkkRlVpx0EckL\n"
	"qfq2bqItRpbA40NoIUe+LavWOiO5YYqO7eUNPwyE3TEigRQtnKb1ofRJFc7/GeMW\n"
	"JsQNmaJ/bjVDIyxLh1prQ3wDD0PyT+vlxRiJct6ETRuBhVUF0Q5ykPoYQE1WjobU\n"
	"SL06Fg/0xpasvItIYEtJ+VamBTkPpCcltGxm6NYQXQpuENz4/qcjenSbLFL5yTEJ\n"
	"zULEZKHajmP3l/Shjt6Qj/Sk6duhH+SYCsTrdMa6AQKBgQDW4Ne8hR0grrziB/KE\n"
	"qjuJ9AT6RbqnfVAI2mFNTpznvr3OYdrTxzJGREj+9MkwtcITWSBimO58uQEqdcVa\n"
	"omjtODwZe/WAx3J+1sL0BguQHPvKV/FBQlktAhDlMjm/oP6oVCwArUXgPCrzE7PM\n"
	"s3Fl+cAlhe+CMHt8GeJNbZ/iowKBgQC5POe10J5uiIZBTfpuUTsI401HYjE+PV1Q\n"
	"I3sWmiRKi6olDlDcKwf4bRaZBvsJuKtK1GaW2S5Z5gEBkSAZAcU323CVQLaHfzwI\n"
	"AqYfuPwzCa4Z72uicj48iw/Q/tyIDb5BSdDY93QuFGuGlc6DhKg6OobIujFTF7Nq\n"
	"HsFaSWiz+QKBgC1hhQ6SimlJniiahxSPo01qVNbKfTY8V/fWrzAVhzvGY+2/aujJ\n"
	"LAv9BfGanxcDe/58F0Pbipqas+1UvB59KG3ZL5AuRtYwyTSShM/mqvB/vomocxJW\n"
	"QeEoi4rsRZf8F2xTgouODLDj5Co8If/8cdmYmoUSOVgkhx/Zk5rIqTjDAoGBAIOf\n"
	"a2Yd3vXbvMoahqBsx+4A1aCrfSIkqHGRRJ1C2ha+NyAtk/dd/EPh//SsqSS3O7/o\n"
	"PR1jJTRr4rsiTBR41ZJjMxRa71hIaHeoqjJQV6RMdJGpNmovk1mh1pNDBaEHYvEx\n"
	"al1BOCSmDeGMAToiwQbfH3byFqpcZPg68lkdYHDBAoGBAKLQcCZDeXz11Ghw9SHd\n"
	"rzVrPER7NoClNncoLhDj8Lj1e5n7EhwLERyBGHJU+b4xCxO5ZW8+q1tl90R+qPpK\n"
	"Nf1qoQTkdVHBGMZrGQnQ91PuMVU3cRkZ55e3DOlM0fW878zNb54puVbbV9p0giOB\n"
	"N/OGkqj5qgnn4TEBFhRygXBn\n"
	"-----END PRIVATE KEY-----\n";

__attribute__((unused)) static const char tls_rig_client_crt[] =
	"-----BEGIN CERTIFICATE-----\n"
	"MIIBvjCCAWSgAwIBAgIUDFbrsvuVtyHV/8TIgLmvz76hzfYwCgYIKoZIzj0EAwIw\n"
	"KzENMAsGA1UECgwEVGVzdDEaMBgGA1UEAwwRVGVzdCBJbnRlcm1lZGlhdGUwIBcN\n"
	"MDAwMTAxMDAwMDAwWhgPMjA5OTEyMzEyMzU5NTlaMC0xDTALBgNVBAoMBFRlc3Qx\n"
	"HDAaBgNVBAMME2NsaWVudC5leGFtcGxlLnRlc3QwWTATBgcqhkjOPQIBBggqhkjO\n"
	"PQMBBwNCAAQ+RuU4geDQRC/55/0QYu64PuVq2mc0z0gxwN/eH2xNagycWa8sGptX\n"
	"xf9X9mJYwLLnf+9ZidBdHTLnaNiYqgoTo2IwYDAJBgNVHRMEAjAAMBMGA1UdJQQM\n"
	"MAoGCCsGAQUFBwMCMB0GA1UdDgQWBBQ4Fe6yyih1C3t1rXlsT4Se77brWzAfBgNV\n"
	"HSMEGDAWgBREM6kGMiIhA55d2UpRhC6h5Mw6XDAKBggqhkjOPQQDAgNIADBFAiA7\n"
	"rmX8CGMV97uVHjCJL9N6zS+HWyI6YydrBprEcpf2MgIhAOirWiTPo0DDTI8XRKuO\n"
	"8L4p03cRC1LKsO/EMOhL8bRd\n"
	"-----END CERTIFICATE-----\n";

__attribute__((unused)) static const char tls_rig_client_key[] =
	"-----BEGIN PRIVATE KEY-----\n"
	"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3EADXhGkWqgj9hhV\n"
	"OkbgoV+YX/Gu7o1DFrep37qoyJqhRANCAAQ+RuU4geDQRC/55/0QYu64PuVq2mc0\n"
	"z0gxwN/eH2xNagycWa8sGptXxf9X9mJYwLLnf+9ZidBdHTLnaNiYqgoT\n"
	"-----END PRIVATE KEY-----\n";

/* All that is waiting at one end goes to the other, `step` bytes at a time. */
__attribute__((unused)) static void tls_rig_move(struct tls *from, struct tls *to, size_t step)
{
	struct buf *b = tls_out(from);

	while (b->len > 0) {
		size_t n = b->len < step ? b->len : step;

		tls_feed(to, b->p, n);
		buf_consume(b, n);
		if (step < 100)
			return;
	}
}

/* 0, or what the end that failed said. */
__attribute__((unused)) static int tls_rig_join(struct tls *client, struct tls *server, size_t step)
{
	int c = E_AGAIN, s = E_AGAIN;

	for (int i = 0; i < 100000 && (c == E_AGAIN || s == E_AGAIN); i++) {
		if (c == E_AGAIN)
			c = tls_handshake(client);
		tls_rig_move(client, server, step);
		if (s == E_AGAIN)
			s = tls_handshake(server);
		tls_rig_move(server, client, step);
		if ((c != 0 && c != E_AGAIN) || (s != 0 && s != E_AGAIN))
			break;
	}
	return c != 0 ? c : s;
}

#endif
