from os import getuid

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return {"hello": "world"}


@app.get("/user")
def user():
    return {"uid": getuid()}
