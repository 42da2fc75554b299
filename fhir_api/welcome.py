"""The first page: the demo's accounts, where things are, and the README's lines to paste. Works without scripts."""

from html import escape

from starlette.responses import HTMLResponse

from fhir_api.issuer import Issuer
from fhir_api.markup import page, table
from fhir_api.services import Services

_LINKS = (
    ("/fhir/metadata", "CapabilityStatement 能力声明"),
    ("/fhir/.well-known/smart-configuration", "SMART configuration SMART 配置"),
    ("/docs", "OpenAPI"),
    ("/health/ready", "readiness 就绪状态"),
    ("/metrics", "Prometheus metrics 指标"),
)
_EMBEDDED_ISSUER = ("/auth/.well-known/openid-configuration", "OpenID Connect")
_INTRODUCTION = (
    "<p>区域健康档案与医疗数据共享平台。FHIR 接口位于 <code>/fhir</code>。<br>"
    '<span lang="en">A region\'s health records, shared with exactly those who may see them. '
    "The FHIR base is <code>/fhir</code>.</span></p>"
)


def welcome(services: Services) -> HTMLResponse:
    """The page at `/`."""
    there = _LINKS if services.issuer is None else (*_LINKS, _EMBEDDED_ISSUER)
    links = "".join(f'<li><a href="{path}">{path}</a> {escape(text)}</li>' for path, text in there)
    parts = [
        "<h1>康联 Kanglian</h1>",
        _INTRODUCTION,
        f"<h2>链接 Links</h2><ul>{links}</ul>",
    ]
    if services.issuer is not None and services.issuer.directory.accounts:
        parts.append(_accounts(services.issuer))
    if services.walk:
        lines = escape("\n".join(services.walk))
        parts.append(f"<h2>试一试 Try it</h2><pre>{lines}</pre>")
    return page("康联 Kanglian", "".join(parts))


def _accounts(issuer: Issuer) -> str:
    directory = issuer.directory
    people = [
        (account.subject, account.name, " ".join(account.roles), account.organisation or "", account.purpose_of_use)
        for account in directory.accounts.values()
    ]
    machines = [
        (client.client_id, client.name, " ".join(client.roles), client.organisation or "", client.purpose_of_use)
        for client in directory.clients.values()
        if "client_credentials" in client.grants
    ]
    header = ("账号 account", "姓名 name", "角色 roles", "机构 organisation", "用途 purpose")
    return (
        f"<h2>演示账号 Demo accounts</h2><p>密码 password: <code>{escape(directory.password)}</code></p>"
        f"{table(header, people)}<h2>机器客户端 Machine clients</h2>{table(header, machines)}"
    )
