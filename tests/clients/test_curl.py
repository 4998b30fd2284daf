"""curl: the lines of the README and of the seed."""

from __future__ import annotations

import json
import re

from tests.clients.case import PASSWORD, REGISTRY, USER, ClientTestCase
from tests.clients.namespace import missing
from tests.integration.images import image

URL = f"http://{REGISTRY}"
WHO = ("-u", f"{USER}:{PASSWORD}")


class CurlTests(ClientTestCase):
    skip = missing("curl") or None

    def test_base(self) -> None:
        """``/v2/`` is 200 with credentials, and 401 with a challenge without."""
        self.assertEqual("200", self.status(*WHO, f"{URL}/v2/"))
        self.assertEqual("401", self.status("-u", f"{USER}:wrong", f"{URL}/v2/"))
        head = self.curl("-D", "-", "-o", "/dev/null", f"{URL}/v2/")
        self.assertRegex(head, r"^HTTP/1.1 401 ")
        self.assertRegex(head, r"(?im)^www-authenticate: (Basic|Bearer) realm=")

    def test_push_and_pages(self) -> None:
        """What curl pushed is listed in pages, each with a Link to the next one."""
        content = image("curl", layers=1)
        for number in range(3):
            self.curl_push("curl/pages", f"v{number}", content)
            self.curl_push(f"curl/repository{number}", "v1", content)
        first = f"{URL}/v2/curl/pages/tags/list?n=2"
        self.assertEqual([["v0", "v1"], ["v2"]], self._pages(first, "tags"))
        last = f"{URL}/v2/curl/pages/tags/list?n=2&last=v1"
        self.assertEqual([["v2"]], self._pages(last, "tags"))
        names = ["curl/pages", *(f"curl/repository{number}" for number in range(3))]
        self.assertEqual([names[:3], names[3:]], self._pages(f"{URL}/v2/_catalog?n=3", "repositories"))

    def _pages(self, url: str, key: str) -> list[list[str]]:
        pages = []
        while url:
            head, _, body = self.curl(*WHO, "-i", url).replace("\r\n", "\n").partition("\n\n")
            pages.append(json.loads(body)[key])
            found = re.search(r'(?im)^link: <(\S+)>; rel="next"', head)
            url = URL + found[1] if found else ""
        return pages

    def test_expect(self) -> None:
        """A big body without credentials is refused before curl sends it."""
        path = self.home / "big"
        with path.open("wb") as file:
            file.truncate(64 << 20)
        target = f"{URL}/v2/curl/big/manifests/v1"
        sent = self.curl("-o", "/dev/null", "-w", "%{http_code} %{size_upload}", "-T", str(path), target)
        self.assertEqual("401 0", sent)
