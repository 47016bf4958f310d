"""The pages of exporter-proxy in a headless Chromium.

Starts the program with 500 sources, 20 of which fail and some of which have hostile names,
and checks each page at two widths, light and dark: no script of a sender runs, the console
has no errors, axe finds nothing serious, nothing is wider than the window. Then it uses the
pages with the keyboard alone, without scripts, and with forms of another site.

usage: pages.py PROGRAM AXE [DIRECTORY]

PROGRAM is the exporter-proxy to test, AXE the file axe.min.js of axe-core. Screenshots go to
DIRECTORY, if it is given.
"""

import http.server
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from playwright.sync_api import sync_playwright

CHROMIUM = os.environ.get("EXPORTER_PROXY_CHROMIUM", "/usr/bin/chromium")
# How long something may take on a busy machine, in seconds.
PATIENCE = 60

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title><svg onload=alert(1)>",
    "javascript:alert(1)",
    "right\u202eto left",
    "../../etc/passwd",
    "a b/c?d#e%2F&amp;",
    "{{7*7}}${7*7}",
    "שלום 日本語 😀",
    "x" * 256,
]


class Upstream(http.server.BaseHTTPRequestHandler):
    """Exporters: /ok has metrics, /500 and /404 fail."""

    def do_GET(self):
        status = int(self.path[1:4]) if self.path[1:4].isdigit() else 200
        body = b"# HELP node_load1 1m load average.\n# TYPE node_load1 gauge\nnode_load1 0.42\n"
        try:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            pass  # The proxy reads no body of a failed response, and closes after its timeout.

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited in vain: {what}")
        time.sleep(0.05)


class Proxy:
    """The program with its sources."""

    def __init__(self, program, directory):
        self.upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        threading.Thread(target=self.upstream.serve_forever, daemon=True).start()
        self.config = os.path.join(directory, "config.toml")
        with open(self.config, "w", encoding="utf-8") as config:
            config.write(self.settings(directory))
        self.log = open(os.path.join(directory, "log"), "w+", encoding="utf-8")
        environment = {"PATH": os.environ["PATH"], "RUST_LOG": "info", "EXPORTER_PROXY_PUSH_MAX_GROUPS": "180"}
        self.process = subprocess.Popen(
            [program, "--config", self.config], stderr=self.log, env=environment, cwd=directory
        )
        self.push = self.address(r"accepting pushes on (http://[0-9.:]+)")
        self.scrape = self.address(r"serving (http://[0-9.:]+)/metrics")
        self.receiver = self.address(r"receiving on TCP socket ([0-9.]+:[0-9]+)")

    def settings(self, directory):
        upstream = self.upstream.server_address[1]
        targets = []
        for number in range(50):
            path = {0: "500", 1: "404"}.get(number % 3, "ok") if number < 12 else "ok"
            port = free_port() if 12 <= number < 24 else upstream
            targets.append(
                f'[[poll_external.targets]]\nname = "node-{number:02}"\n'
                f'url = "http://127.0.0.1:{port}/{path}?token=S3CR3T"\n'
                f'interval = "{"2s" if number < 30 else "1h"}"\ntimeout = "2s"\n'
                'basic_auth = { username = "prober", password = "S3CR3T" }\n'
            )
        # Discoveries: one works, one leaves an entry out, one fails.
        os.mkdir(os.path.join(directory, "textfile"))
        for job in ("backup", "cleanup"):
            with open(os.path.join(directory, "textfile", f"{job}.prom"), "w", encoding="utf-8") as file:
                file.write(f"{job}_last_run_seconds 12\n")
        with open(os.path.join(directory, "list.json"), "w", encoding="utf-8") as file:
            json.dump([{"targets": ["<b>no host</b>"]}], file)
        return (
            '[exporter]\nscrape_expose_endpoint = "127.0.0.1:0"\n'
            f'[receiver]\nreceiver_tcp_socket = "127.0.0.1:0"\nreceiver_unix_socket = "{directory}/r.sock"\nmax_apps = 350\n'
            '[push]\nlisten = "127.0.0.1:0"\ngroup_ttl = "2h"\ngauges = "last"\n'
            '[[push.rules]]\nmatch = "jobs_*"\npolicy = "max"\ndrop_labels = ["pod"]\n'
            '[poll_external]\npoll_other_scrape_endpoints = true\n'
            f'textfile = ["{directory}/textfile"]\nfile_sd = ["{directory}/list.json"]\nmax_targets = 64\n'
            f'[[poll_external.http_sd]]\nurl = "http://127.0.0.1:{upstream}/500"\n'
            f'[storage]\npath = "{directory}/state"\n'
            f'[sinks.logs]\ntype = "loki"\nurl = "http://127.0.0.1:{free_port()}"\n' + "".join(targets)
        )

    def address(self, pattern):
        def found():
            if self.process.poll() is not None:
                raise SystemExit(f"the program has ended:\n{self.read_log()}")
            return re.search(pattern, self.read_log())

        wait_for(f"{pattern} in the log", found)
        return found().group(1)

    def read_log(self):
        with open(self.log.name, encoding="utf-8") as log:
            return log.read()

    def request(self, method, path, body=b"", headers=None, to=None):
        request = urllib.request.Request((to or self.push) + path, body or None, headers or {}, method=method)
        opener = urllib.request.build_opener(NoRedirects)
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read().decode()

    def fill(self):
        """300 apps, 150 groups and 52 targets, 20 of which fail; aggregated families, webhooks."""
        apps = {
            f"shop-{number:03}": "# HELP orders_total Orders by state.\n# TYPE orders_total counter\n"
            + "".join(
                f'orders_total{{app="{number}",state="{state}"}} {number * 7}\n' for state in ("paid", "open", "sent")
            )
            for number in range(300 - len(HOSTILE))
        }
        for number, name in enumerate(HOSTILE):
            apps[name] = f'hostile_{number}{{x="<b>{number}</b>"}} 1\n'
        apps["shop-000"] += 'orders_total{app="1",state="paid"} 1\n'
        apps["shop-001"] += "this line is wrong\n"
        host, port = self.receiver.split(":")
        with socket.create_connection((host, int(port))) as sender:
            sender.sendall(json.dumps(apps).encode())
            sender.shutdown(socket.SHUT_WR)
            answer = sender.recv(1000)
        assert not answer, answer
        groups = [
            {
                "labels": {"job": f"backup-{number % 30}", "instance": f"host-{number}<i>", "zone": "eu-1"},
                "metrics": f"# TYPE backup_last_success gauge\nbackup_last_success {number}\nbackup_bytes {number}\n",
            }
            for number in range(150)
        ]
        status, _, text = self.request("POST", "/api/v1/batch", json.dumps({"groups": groups}).encode())
        assert status < 300, (status, text)
        for family in range(12):
            body = f"# HELP jobs_{family} Jobs <done>.\n# TYPE jobs_{family} counter\n" + "".join(
                f'jobs_{family}{{queue="q{series}"}} 1\n' for series in range(1 + family * 5)
            )
            status, _, text = self.request("POST", "/metrics/job/sum?mode=aggregate", body.encode())
            assert status < 300, (status, text)
        alert = {
            "version": "4", "status": "firing", "receiver": "ops",
            "alerts": [{"status": "firing", "labels": {"alertname": "<b>DiskFull</b>"}}],
        }
        for number in range(5):
            alert["status"] = "resolved" if number % 2 else "firing"
            headers = {"Content-Type": "application/json"}
            status, _, text = self.request("POST", "/webhook", json.dumps(alert).encode(), headers)
            assert status < 300, (status, text)
        status, _, _ = self.request("PUT", "/metrics/job/bad", b"wrong{ 1\n")
        assert status == 400
        self.request("GET", "/metrics", to=self.scrape)

        def failing():
            _, _, text = self.request("GET", "/apps?format=json&kind=target&state=failing")
            return json.loads(text)["total"] == 20

        wait_for("20 failing targets", failing)

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.upstream.shutdown()
        self.upstream.server_close()
        self.log.close()


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


VIEWS = {
    "status": "/",
    "sources": "/apps",
    "sources-filtered": "/apps?state=problem&sort=-name",
    "app": "/apps/shop-000?kind=app",
    "hostile": "/apps/" + urllib.parse.quote(HOSTILE[1], safe="") + "?kind=app",
    "target": "/apps/node-00?kind=target",
    "group": "/apps/" + urllib.parse.quote('{instance="host-7<i>",job="backup-7",zone="eu-1"}', safe="") + "?kind=group",
    "aggregated": "/aggregated",
    "webhooks": "/webhooks",
    "settings": "/settings",
    "missing": "/apps/nothing",
}


class Browser:
    def __init__(self, playwright, base, axe, directory):
        self.chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        self.base, self.axe, self.directory = base, axe, directory
        self.problems = []

    def page(self, width=1280, scheme="light", scripts=True):
        context = self.chromium.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=scripts
        )
        context.set_default_timeout(PATIENCE * 1000)
        page = context.new_page()
        page.on("console", lambda it: it.type in ("error", "warning") and self.note(page, f"console: {it.text}"))
        page.on("pageerror", lambda it: self.note(page, f"error: {it}"))
        page.on("dialog", lambda it: (self.note(page, f"dialog: {it.message}"), it.dismiss()))
        return page

    def note(self, page, problem):
        # The browser reports the missing page and the rejected form.
        expected = (("404 (Not Found)", "/apps/nothing"), ("403 (Forbidden)", "/-/action"))
        if not any(status in problem and path in page.url for status, path in expected):
            self.problems.append(f"{page.url}: {problem}")

    def look(self, name, path, width, scheme):
        page = self.page(width, scheme)
        page.goto(self.base + path)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            self.note(page, f"{wide} pixels wider than {width}")
        if self.directory:
            file = os.path.join(self.directory, f"{name}-{width}-{scheme}.png")
            page.screenshot(path=file, full_page=name not in ("sources", "settings"))
        page.evaluate(self.axe)
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        for violation in found["violations"]:
            if violation["impact"] in ("serious", "critical"):
                nodes = [node["html"][:200] for node in violation["nodes"][:3]]
                self.note(page, f"axe: {violation['id']} ({scheme}, {width}): {nodes}")
        page.context.close()

    def check(self, page, what, holds):
        if not holds:
            self.note(page, what)

    def use_keyboard(self):
        page = self.page()
        page.goto(self.base + "/apps")
        page.keyboard.press("Tab")
        self.check(page, "the first stop is the link to the content", page.evaluate("document.activeElement.className") == "skip")
        page.keyboard.press("Enter")
        page.keyboard.press("/")
        self.check(page, "/ leads to the search", page.evaluate("document.activeElement.name") == "q")
        page.keyboard.type("node-0")
        shown = "[...document.querySelectorAll('table.sources > tbody')].filter(it => !it.hidden).length"
        self.check(page, "rows are filtered while somebody types", page.evaluate(shown) == 10)
        page.keyboard.press("Enter")
        page.wait_for_url("**/apps?q=node-0")
        self.check(page, "the search is sent", page.evaluate(shown) == 10)
        page.keyboard.press("/")
        # Through the kind, the state, the button, and the heads of columns.
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "Size":
                break
        page.keyboard.press("Enter")
        page.wait_for_url("**sort=-size*")
        self.check(page, "the column says its order", page.locator("th[aria-sort=descending]").inner_text().startswith("Size"))
        page.context.close()

    def act(self, proxy, scripts):
        name = "shop-010" if scripts else "shop-011"
        page = self.page(scripts=scripts)
        page.goto(self.base + "/apps/node-30?kind=target")
        before = page.locator("table.polls tbody tr").count()
        page.get_by_role("button", name="Poll now").click()
        page.wait_for_url("**done=poll")
        self.check(page, "a poll out of turn is listed", page.locator("table.polls tbody tr").count() == before + 1)
        page.goto(self.base + f"/apps/{name}?kind=app")
        self.check(page, "nothing is deleted at once", page.get_by_role("button", name="Delete").count() == 0)
        page.locator("details.confirm summary").focus()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Delete").click()
        page.wait_for_url("**done=delete-app")
        self.check(page, "the page says so", page.get_by_role("status").inner_text() == "The app was deleted.")
        self.check(page, "the app is gone", proxy.request("GET", f"/apps/{name}")[0] == 404)
        page.goto(self.base + "/aggregated?sort=series")
        row = page.locator("table.aggregated tbody tr").last
        family = row.locator("td.name a").inner_text()
        row.locator("summary").click()
        row.get_by_role("button", name="Delete").click()
        page.wait_for_url("**done=delete-family")
        self.check(page, "the family is gone", family + "{" not in proxy.request("GET", "/metrics")[2])
        page.goto(self.base + "/")
        page.get_by_role("button", name="Reload configuration").click()
        page.wait_for_url("**done=reload")
        page.context.close()

    def refresh(self, proxy):
        page = self.page()
        page.goto(self.base + "/apps?q=new-app")
        self.check(page, "nothing matches yet", "No source matches" in page.locator("main").inner_text())
        proxy.request("POST", "/metrics/job/new-app", b"m 1\n")
        page.get_by_role("checkbox").check()
        page.locator("table.sources .label").first.wait_for()
        page.context.close()

    def attack(self, proxy):
        """A form of another site, with a token from the attacker's own browser."""
        page = self.page()
        page.goto(self.base + "/apps/shop-020?kind=app")
        _, headers, text = proxy.request("GET", "/apps/shop-020?kind=app", headers={"Accept": "text/html"})
        token = re.search(r'name="token" value="([0-9a-f]+)"', text).group(1)
        form = {"token": token, "action": "delete-app", "name": "shop-020"}
        inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in form.items())
        elsewhere = f"<form method=post action={self.base}/-/action>{inputs}</form><script>document.forms[0].submit()</script>"
        page.route("http://elsewhere.test/**", lambda it: it.fulfill(body=elsewhere, content_type="text/html"))
        with page.expect_response("**/-/action") as answer:
            page.goto("http://elsewhere.test/", wait_until="commit")
        self.check(page, f"a form of another site gets 403, not {answer.value.status}", answer.value.status == 403)
        page.context.close()
        # The same origin, with another browser's cookie or none.
        body = urllib.parse.urlencode(form).encode()
        cookie = headers["Set-Cookie"].split(";")[0]
        origin = {"Origin": self.base}
        for extra in ({}, {"Cookie": cookie[:-4] + "0000"}):
            status, _, _ = proxy.request("POST", "/-/action", body, {**origin, **extra})
            self.check(page, f"a token without its cookie gets {status}", status == 403)
        self.check(page, "the app is there", proxy.request("GET", "/apps/shop-020")[0] == 200)
        status, _, _ = proxy.request("POST", "/-/action", body, {**origin, "Cookie": cookie})
        self.check(page, f"a token with its cookie gets {status}", status == 303)
        self.check(page, "the app is gone", proxy.request("GET", "/apps/shop-020")[0] == 404)


def main():
    program, axe_file = os.path.abspath(sys.argv[1]), sys.argv[2]
    directory = sys.argv[3] if len(sys.argv) > 3 else None
    with open(axe_file, encoding="utf-8") as file:
        axe = file.read()
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        proxy = Proxy(program, scratch)
        browser = Browser(playwright, proxy.push, axe, directory)
        try:
            proxy.fill()
            for name, path in VIEWS.items():
                for width in (1280, 390):
                    for scheme in ("light", "dark"):
                        browser.look(name, path, width, scheme)
            browser.use_keyboard()
            browser.refresh(proxy)
            for scripts in (True, False):
                browser.act(proxy, scripts)
            browser.attack(proxy)
        finally:
            browser.chromium.close()
            proxy.stop()
        problems = browser.problems
    for problem in problems:
        print(problem)
    print(f"{len(VIEWS)} pages, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
