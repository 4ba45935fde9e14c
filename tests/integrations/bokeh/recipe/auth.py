# auth.py
from tornado.web import RequestHandler

PASSWORDS = {"alice": "alice's password", "bob": "bob's password"}


def get_user(handler: RequestHandler) -> str | None:
    name = handler.get_signed_cookie("member")
    return name.decode() if name else None


login_url = "/login"
logout_url = "/logout"


class LoginHandler(RequestHandler):
    def get(self) -> None:
        fields = '<input name="name" aria-label="Name"><input name="password" type="password" aria-label="Password">'
        self.finish(f'<form method="post">{self.xsrf_form_html()}{fields}<button>Log in</button></form>')

    def post(self) -> None:
        name = self.get_argument("name")
        if PASSWORDS.get(name) != self.get_argument("password"):
            self.send_error(401)
        else:
            self.set_signed_cookie("member", name, httponly=True)
            self.redirect("/dashboard")


class LogoutHandler(RequestHandler):
    async def post(self) -> None:
        name = get_user(self)
        if name is not None:
            await self.settings["wsauth"].disconnect_user(name)  # this line is new
        self.clear_cookie("member")
        self.redirect("/login")
