"""Django REST Framework in one file, as its tutorial has it: serializer, view set, router."""

import os
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import django
from django.conf import settings

url = urlsplit(os.environ["DATABASE_URL"])
[folder] = parse_qs(url.query).get("host", [""])
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path[1:],
            "USER": url.username,
            "HOST": folder or url.hostname,
            "PORT": url.port or "",
            "CONN_MAX_AGE": None,
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["rest_framework"],
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
    },
    ROOT_URLCONF=__name__,
    SECRET_KEY="bench",
    USE_TZ=True,
)
django.setup()

from django.contrib.postgres.fields import ArrayField  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import models  # noqa: E402
from django.urls import include, path  # noqa: E402
from rest_framework import routers, serializers, viewsets  # noqa: E402
from rest_framework.decorators import action  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402


PRIORITIES = [(name, name) for name in ("low", "medium", "high", "urgent")]


class Task(models.Model):
    pk = models.CompositePrimaryKey("user_id", "id")
    id = models.UUIDField(default=uuid4)
    user_id = models.CharField(max_length=255)
    title = models.CharField(max_length=500)
    description = models.TextField(null=True, blank=True, max_length=5000)
    completed = models.BooleanField(default=False)
    priority = models.CharField(choices=PRIORITIES, default="medium")
    due_date = models.DateTimeField(null=True, blank=True)
    tags = ArrayField(models.CharField(max_length=50), size=20, default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        app_label = "tasks"
        db_table = "tasks"
        managed = False


class TaskSerializer(serializers.ModelSerializer):
    class Meta:
        model = Task
        fields = [
            "id",
            "user_id",
            "title",
            "description",
            "completed",
            "priority",
            "due_date",
            "tags",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["id", "user_id"]


class TaskViewSet(viewsets.ModelViewSet):
    serializer_class = TaskSerializer
    lookup_field = "id"

    def get_queryset(self) -> Any:
        return Task.objects.filter(user_id=self.kwargs["user_id"]).order_by("created_at")

    def perform_create(self, serializer: Any) -> None:
        serializer.save(user_id=self.kwargs["user_id"])

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().update(request, *args, **{**kwargs, "partial": True})

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        super().destroy(request, *args, **kwargs)
        return Response({"message": "Task deleted successfully"})

    @action(detail=True, methods=["patch"])
    def complete(self, request: Request, **kwargs: Any) -> Response:
        task = self.get_object()
        task.completed = not task.completed
        task.save()
        return Response(self.get_serializer(task).data)


router = routers.SimpleRouter(trailing_slash=False)
router.register("tasks", TaskViewSet, basename="task")
urlpatterns = [path("api/<str:user_id>/", include(router.urls))]
application = get_wsgi_application()
